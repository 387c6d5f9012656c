"""Resizing of attention maps between grids: keys bilinear (no antialias), queries nearest, and the transpose of both.

A resized self-attention is U S V^T: U [target pixels, source pixels] picks a row for every target query, V mixes keys.
Neither is formed: U is an index, V is separable, one small matrix per axis. Grids are (height, width); pixels are in
row-major order.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from goca.ambient import neutral
from goca.types import Grid


@lru_cache(maxsize=256)
@neutral()
def _axis_matrix(source: int, target: int, device: torch.device) -> Float[Tensor, "target source"]:
    eye = torch.eye(source, dtype=torch.float32, device=device)
    return F.interpolate(eye[None], size=target, mode="linear")[0].T.contiguous()


@lru_cache(maxsize=256)
@neutral()
def nearest_rows(source: Grid, target: Grid) -> Int64[Tensor, " target_pixels"]:
    """U as an index (on the CPU): the pixel of ``source`` that nearest resizing puts at each pixel of ``target``."""
    pixels = torch.arange(source[0] * source[1], dtype=torch.float64).view(1, 1, *source)
    return F.interpolate(pixels, size=target, mode="nearest").flatten().long()


@lru_cache(maxsize=256)
@neutral()
def nearest_sources(source: Grid, target: Grid) -> tuple[Int64[Tensor, " sources"], Int64[Tensor, " target_pixels"]]:
    """The rows that :func:`nearest_rows` picks, ascending and each once, and for each target pixel its place there."""
    rows, inverse = torch.unique(nearest_rows(source, target), return_inverse=True)
    return rows, inverse


def resize_keys(rows: Float[Tensor, "rows source"], source: Grid, target: Grid) -> Float[Tensor, "rows target"]:
    """``rows`` V^T: every row, a map on ``source``, resized bilinearly to ``target``."""
    if source == target:
        return rows
    vertical = _axis_matrix(source[0], target[0], rows.device)
    horizontal = _axis_matrix(source[1], target[1], rows.device)
    return (vertical @ (rows.reshape(-1, *source) @ horizontal.T)).flatten(1)


def unresize_keys(rows: Float[Tensor, "rows target"], source: Grid, target: Grid) -> Float[Tensor, "rows source"]:
    """``rows`` V: the transpose of :func:`resize_keys`, from maps on ``target`` back to ``source``."""
    if source == target:
        return rows
    vertical = _axis_matrix(source[0], target[0], rows.device)
    horizontal = _axis_matrix(source[1], target[1], rows.device)
    return (vertical.T @ (rows.reshape(-1, *target) @ horizontal)).flatten(1)


def resize_maps(maps: Float[Tensor, "maps height width"], size: Grid) -> Float[Tensor, "maps new_height new_width"]:
    """Bilinear resizing without antialias."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear")[0]
