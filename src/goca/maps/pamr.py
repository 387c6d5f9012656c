"""Sharper edges from the image itself: pixel-adaptive mask refinement (PAMR; Araslanov and Roth, "Single-Stage Semantic
Segmentation from Image Labels", CVPR 2020).

Every pixel's scores become a mean over its neighbours at several distances, weighed by how alike their colours are,
a few times over. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goca.maps.resize import resize_maps
from goca.types import ScoreMaps

DISTANCES = (1, 2, 4, 8, 12, 24)
CONTRAST = 0.1  # colour difference that counts, as a share of the neighbourhood's standard deviation
LONGEST_SIDE = 512


def neighbours(maps: Float[Tensor, "maps height width"]) -> Iterator[Float[Tensor, "maps height width"]]:
    """The maps as seen from the eight directions at each of :data:`DISTANCES`; the border is repeated."""
    height, width = maps.shape[1:]
    for distance in DISTANCES:
        padded = F.pad(maps[None], (distance,) * 4, mode="replicate")[0]
        for down in (0, distance, 2 * distance):
            for right in (0, distance, 2 * distance):
                if (down, right) != (distance, distance):
                    yield padded[:, down : down + height, right : right + width]


def likeness(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "neighbours height width"]:
    """Weights of :func:`neighbours`, in the same order; they sum to 1 at every pixel."""
    count = 8 * len(DISTANCES) + 1
    total, squares = image.clone(), image.square()
    for colours in neighbours(image):
        total += colours
        squares += colours.square()
    deviation = ((squares - total.square() / count) / (count - 1)).clamp_min(0).sqrt()
    scale = CONTRAST * deviation + 1e-8
    scores = [-((colours - image).abs() / scale).mean(dim=0) for colours in neighbours(image)]
    return torch.softmax(torch.stack(scores), dim=0)


def pamr(scores: ScoreMaps, image: Image.Image, iterations: int) -> ScoreMaps:
    """Maps on the image's own grid (its longest side at most 512), drawn to its edges; unchanged for 0 iterations.

    Args:
        image: the RGB picture that was segmented, of any size.
    """
    if iterations == 0:
        return scores
    shrink = min(1.0, LONGEST_SIDE / max(image.size))
    width, height = (max(1, round(side * shrink)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    colours = torch.from_numpy(pixels).permute(2, 0, 1).to(scores.maps.device) / 255
    weights = likeness(colours)
    maps = resize_maps(torch.cat([scores.maps, scores.background[None]]), (height, width))
    for _ in range(iterations):
        mixed = torch.zeros_like(maps)
        for weight, seen in zip(weights, neighbours(maps), strict=True):
            mixed.addcmul_(weight, seen)
        maps = mixed
    return replace(scores, maps=maps[:-1], background=maps[-1])
