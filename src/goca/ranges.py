"""Numbers that users give: whole or finite, and within the range that can work."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from goca.messages import shorten

LARGEST_SEED = 2**64 - 1  # torch.Generator takes no more
LARGEST_COUNT = 1_000_000
LARGEST_PRICE = 1e6  # of a million tokens
MOST_WORKERS = 1024
MOST_AT_ONCE = 64  # questions to a server
LARGEST_SIDE = 16_384  # of an image, in pixels
MOST_STEPS = 10_000  # of a denoiser
LARGEST_SCALE = 1_000.0  # of guidance: far beyond what gives images, and float16 still holds it
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 86_400.0  # seconds


def check_whole(name: str, value: Any, least: int, most: int = LARGEST_COUNT) -> int:
    """The value as an ``int``.

    Raises:
        ValueError: it is no whole number (``True`` is none), or out of its range.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and least <= value <= most:
        return int(value)
    bounds = f"from {least} to {most}" if whole and value > most else f"of at least {least}"
    raise ValueError(f"{name} is a whole number {bounds}, not {_shown(value)}")


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """The value as a ``float``.

    Raises:
        ValueError: it is no finite number, or out of its range.
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if real and least <= value <= most:
        return float(value)
    bounds = f" from {least:g} to {most:g}" if math.isfinite(least) and math.isfinite(most) else ""
    raise ValueError(f"{name} is a finite number{bounds}, not {_shown(value)}")


def check_seed(value: Any) -> int:
    """A seed that torch and NumPy take."""
    return check_whole("the seed", value, 0, LARGEST_SEED)


def check_limit(value: Any) -> int | None:
    """A number of images; ``None`` for all."""
    return None if value is None else check_whole("the number of images", value, 1)


def check_threshold(value: Any) -> float:
    """A threshold of the background, which competes with scores in [0, 1]."""
    return check_number("the threshold", value, -1.0, 1.0)


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value))
    except ValueError:  # a whole number of more than 4300 digits
        return "one of thousands of digits"
