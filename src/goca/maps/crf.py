"""Fully connected conditional random field (Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with
Gaussian Edge Potentials", NeurIPS 2011), a baseline's post-processing.

Mean field with exact Gaussian sums instead of the lattice approximation: on a grid of at most 48 pixels a side, then
one more step from there to a grid of at most 256.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goca.maps.resize import resize_maps
from goca.types import ScoreMaps

COARSE, FINE = 48, 256
ITERATIONS = 10
BLOCK = 2**21  # entries of the kernel at a time
REFERENCE_SIDE = 500  # pixels of the longest side of Pascal VOC's images, for which parameters are usually given


@dataclass(frozen=True)
class CrfParameters:
    """The two kernels of the field.

    Attributes:
        appearance: weight (compatibility) of the kernel of place and colour.
        smoothness: weight of the kernel of place alone.
        wide: standard deviation of place in the first, in pixels of an image of :data:`REFERENCE_SIDE`.
        narrow: standard deviation of place in the second, likewise.
        colour: standard deviation of colour, of 255.
    """

    appearance: float = 10.0
    smoothness: float = 3.0
    wide: float = 80.0
    narrow: float = 3.0
    colour: float = 13.0


FTTM = CrfParameters(appearance=4.0, smoothness=3.0, wide=67.0, narrow=1.0, colour=3.0)
"""Those of the baseline FTTM in the paper's tables."""


def crf(scores: ScoreMaps, image: Image.Image, parameters: CrfParameters = CrfParameters()) -> ScoreMaps:
    """Maps on a grid of at most 256 pixels a side: the probabilities of mean field with Potts potentials.

    The unary term is -log of the scores' shares per pixel; an all-zero background takes no part.

    Args:
        image: the RGB picture that was segmented, of any size.
    """
    with_background = bool(scores.background.any())
    maps = torch.cat([scores.maps, scores.background[None]]) if with_background else scores.maps
    coarse, size = _features(image, COARSE)
    fine, fine_size = _features(image, FINE)
    coarse, fine = coarse.to(maps.device), fine.to(maps.device)
    unary, kernel = _log_shares(resize_maps(maps, size)), potentials(coarse, coarse, parameters)
    beliefs = torch.softmax(unary, dim=0)
    for _ in range(ITERATIONS):
        beliefs = torch.softmax(unary + beliefs @ kernel.T, dim=0)
    blocks = fine.split(max(1, BLOCK // len(coarse)))
    messages = torch.cat([beliefs @ potentials(block, coarse, parameters).T for block in blocks], dim=1)
    refined = _log_shares(resize_maps(maps, fine_size)) + messages
    labels = torch.softmax(refined, dim=0).view(-1, *fine_size)
    if not with_background:
        return replace(scores, maps=labels, background=torch.zeros_like(labels[0]))
    return replace(scores, maps=labels[:-1], background=labels[-1])


def potentials(
    targets: Float[Tensor, "targets 5"], sources: Float[Tensor, "sources 5"], parameters: CrfParameters
) -> Float[Tensor, "targets sources"]:
    """How much every target listens to every source: a Gaussian of place and colour plus one of place alone, the
    weights of each adding up to the same at every target.

    Args:
        targets: place (row, column; shares of the longest side) and colour in [0, 1] of each pixel, and of ``sources``.
    """
    wide, narrow = parameters.wide / REFERENCE_SIDE, parameters.narrow / REFERENCE_SIDE
    scale = torch.tensor([wide] * 2 + [parameters.colour / 255] * 3, dtype=torch.float32, device=targets.device)
    appearance = _gaussian(targets / scale, sources / scale)
    smoothness = _gaussian(targets[:, :2] / narrow, sources[:, :2] / narrow)
    return appearance.mul_(parameters.appearance).add_(smoothness, alpha=parameters.smoothness)


def _gaussian(
    targets: Float[Tensor, "targets features"], sources: Float[Tensor, "sources features"]
) -> Float[Tensor, "targets sources"]:
    """exp(-|f - g|^2 / 2), every target's row divided by its sum."""
    exponents = torch.addmm(-sources.square().sum(dim=1) / 2, targets, sources.T)
    return torch.softmax(exponents, dim=1)


def _features(image: Image.Image, side: int) -> tuple[Float[Tensor, "pixels 5"], tuple[int, int]]:
    """Positions and colours of the image at no more than ``side`` pixels a side, and its (height, width) there."""
    shrink = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * shrink)) for length in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    place = np.stack([rows, columns], axis=-1) / max(height, width)
    return torch.from_numpy(np.concatenate([place, pixels], axis=-1)).flatten(0, 1), (height, width)


def _log_shares(maps: Float[Tensor, "labels height width"]) -> Float[Tensor, "labels pixels"]:
    """Log of each score's share of its pixel's sum."""
    scores = maps.flatten(1).clamp_min(1e-3)
    return (scores / scores.sum(dim=0)).log()
