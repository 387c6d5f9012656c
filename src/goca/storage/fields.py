"""Fields of JSON objects that a program wrote and anybody may have changed: of the right type and range, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LARGEST = 2**48  # pixels or tokens: more than any run counts


def check_keys(entry: Any, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise ``ValueError`` where a value is no object, or a field of it is missing or unknown."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{_show(entry)} is no object with {', '.join(needed)}")
    missing = [key for key in needed if key not in entry]
    unknown = [key for key in entry if key not in (*needed, *optional)]
    if missing or unknown:
        raise ValueError(f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is no field of it")


def whole(entry: Mapping[str, Any], key: str, low: int = 0, high: int = LARGEST) -> int:
    """A whole number from ``low`` to ``high``.

    Raises:
        ValueError: something else.
    """
    value = entry.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key!r} is {_show(value)} and no whole number from {low} to {high}")
    return value


def number(entry: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A number from ``low`` to ``high``.

    Raises:
        ValueError: something else.
    """
    value: Any = entry.get(key)
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{key!r} is {_show(value)} and no number from {low:g} to {high:g}")
    return float(value)


def text(entry: Mapping[str, Any], key: str) -> str:
    """A text that is not blank.

    Raises:
        ValueError: something else.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key!r} is {_show(value)} and no text")
    return value


def optional_text(entry: Mapping[str, Any], key: str) -> str | None:
    """A text that is not blank, or nothing.

    Raises:
        ValueError: something else.
    """
    return None if entry.get(key) is None else text(entry, key)


def whole_numbers(entry: Mapping[str, Any], key: str, shape: Sequence[int], high: int = LARGEST) -> np.ndarray:
    """Nested lists of whole numbers from 0 to ``high`` as an int64 array; one side of ``shape`` may be -1.

    Raises:
        ValueError: something else.
    """
    value = entry.get(key)
    try:
        array = np.asarray(value, dtype=np.int64).reshape(shape)
        exact = json.dumps(array.tolist()) == json.dumps(value)
    except (ValueError, TypeError, OverflowError):
        exact = False
    if not exact or array.min(initial=0) < 0 or array.max(initial=0) > high:
        raise ValueError(f"{key!r} is {_show(value)} and no table of whole numbers of its shape from 0 to {high}")
    return array


def distinct(entry: Mapping[str, Any], key: str, high: int) -> tuple[int, ...]:
    """A list of different whole numbers from 0 to ``high``.

    Raises:
        ValueError: something else.
    """
    values = tuple(whole_numbers(entry, key, (-1,), high).tolist())
    if len(set(values)) < len(values):
        raise ValueError(f"{key!r} holds a number twice")
    return values


def _show(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
