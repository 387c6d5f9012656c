"""Arrays as text for JSON: maps in 8 bits a value, labels as run lengths."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer


def pack_maps(maps: Float[np.ndarray, "*leading rows columns"]) -> dict[str, Any]:
    """Maps as bytes, each stretched from its own lowest to its own highest value.

    Returns:
        ``shape``, all axes; ``low`` and ``high``, two numbers a map in the order of the leading axes; ``data``, base64
        of one byte a pixel: value = low + (high - low) * byte / 255, which is off by at most (high - low) / 510.

    Raises:
        ValueError: a value that is no finite number.
    """
    flat = np.ascontiguousarray(maps, dtype=np.float32).reshape(-1, *maps.shape[-2:]).astype(np.float64)
    if not np.isfinite(flat).all():
        raise ValueError("the maps hold values that are no finite numbers; segment the image again in float32")
    low, high = flat.min(axis=(1, 2)), flat.max(axis=(1, 2))
    span = np.where(high > low, high - low, 1.0)
    values = np.round((flat - low[:, None, None]) / span[:, None, None] * 255).astype(np.uint8)
    return {
        "shape": list(maps.shape),
        "low": [float(f"{value:.7g}") for value in low],
        "high": [float(f"{value:.7g}") for value in high],
        "data": base64.b64encode(values.tobytes()).decode("ascii"),
    }


def pack_labels(labels: Integer[np.ndarray, "height width"]) -> str:
    """Labels in reading order as runs of equal ones: base64 of pairs (label, length), each number in groups of seven
    bits, the lowest first, with the eighth bit set in all bytes of a number but its last (LEB128)."""
    flat = labels.reshape(-1).astype(np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    numbers = np.stack([flat[starts], lengths], axis=1).reshape(-1)
    groups = numbers[:, None] >> np.arange(0, 35, 7)
    used = np.maximum(1, (groups > 0).sum(axis=1))[:, None] > np.arange(5)
    more = np.concatenate([used[:, 1:], np.zeros((len(used), 1), dtype=bool)], axis=1)
    code = ((groups & 127) | np.where(more, 128, 0)).astype(np.uint8)
    return base64.b64encode(code[used].tobytes()).decode("ascii")


def reduce_maps(
    maps: Float[np.ndarray, "*leading rows columns"], side: int
) -> Float[np.ndarray, "*leading new_rows new_columns"]:
    """Maps of at most ``side`` pixels a side, means over areas; smaller ones as they are."""
    rows, columns = maps.shape[-2:]
    factor = min(1.0, side / max(rows, columns))
    size = (max(1, round(rows * factor)), max(1, round(columns * factor)))
    if size == (rows, columns):
        return maps
    flat = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32)).reshape(1, -1, rows, columns)
    small = torch.nn.functional.adaptive_avg_pool2d(flat, size)
    return small.reshape(*maps.shape[:-2], *size).numpy()


def fitting_side(maps: int, sides: tuple[int, ...], most_bytes: int) -> int | None:
    """The largest of the sides, given in falling order, at which so many square maps have at most so many bytes."""
    return next((side for side in sides if maps * side * side <= most_bytes), None)
