"""Label Studio's brush code, decoded as its format is described."""

from __future__ import annotations

import numpy as np


def decode_brush(code: list[int]) -> np.ndarray:
    """The bytes of a mask's RGBA pixels."""
    bits, at = "".join(f"{byte:08b}" for byte in code), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        is_run, count = read(1), read(sizes[read(2)]) + 1
        values += [read(word)] * count if is_run else [read(word) for _ in range(count)]
    return np.array(values)
