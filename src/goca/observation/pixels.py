"""Scores at single pixels of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class PixelScores:
    """The scores of every stage at one pixel of the image.

    Attributes:
        label: name of the class that it got.
        tokens: aggregated attention to every token, by position; the sum is 1.
        attention: of every class, the mean over its tokens.
        rescaled: of every class, after rescaling.
        refined: of every class, after refinement.
        scores: of every class, as the label was chosen by (before the background rule).
        layers: by layer, the attention to the tokens of the text, then to the special ones together.
        heads: the same of every head, for the layers whose head maps were kept.
        head_weights: by layer.
    """

    x: int
    y: int
    label: str
    tokens: Float[np.ndarray, " tokens"]
    attention: Float[np.ndarray, " classes"]
    rescaled: Float[np.ndarray, " classes"]
    refined: Float[np.ndarray, " classes"]
    scores: Float[np.ndarray, " classes"]
    layers: Mapping[str, Float[np.ndarray, " seen"]]
    heads: Mapping[str, Float[np.ndarray, "heads seen"]]
    head_weights: Mapping[str, Float[np.ndarray, " heads"]]


def check_pixel(x: int, y: int, size: tuple[int, int]) -> tuple[int, int]:
    """The pixel of an image of (width, height).

    Raises:
        ValueError: it lies outside, or is no pair of whole numbers.
    """
    width, height = size
    if x not in range(width) or y not in range(height):
        raise ValueError(
            f"the pixel {x},{y} lies outside the image of {width} x {height} pixels; "
            f"give X from 0 to {width - 1} and Y from 0 to {height - 1}"
        )
    return int(x), int(y)


def sample_maps(
    maps: Float[np.ndarray, "*maps rows columns"], x: int, y: int, size: tuple[int, int]
) -> Float[np.ndarray, "*maps"]:
    """Values at a pixel of an image of (width, height), as :func:`goca.maps.resize.resize_maps` would give them."""
    place = torch.tensor([[[[(2 * x + 1) / size[0] - 1, (2 * y + 1) / size[1] - 1]]]], dtype=torch.float32)
    flat = torch.from_numpy(maps).flatten(0, -3)[None]
    values = F.grid_sample(flat, place, mode="bilinear", padding_mode="border", align_corners=False)
    return values.reshape(maps.shape[:-2]).numpy()
