"""The one reader of JSON: what is damaged is refused in one sentence that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_DEPTH = 64


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, see :func:`parse_json`.

    Raises:
        ValueError: it is no JSON, or no regular file.
        OSError: it is missing or cannot be read.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"{path} is no regular file; give a JSON file")
    return parse_json(Path(path).read_bytes(), str(path))


def read_json_lines(path: str | Path) -> list[Any]:
    """The values of a file with one JSON value a line; empty lines are left out.

    Raises:
        ValueError: a line is no JSON; the message names it.
        OSError: the file is missing or cannot be read.
    """
    lines = Path(path).read_bytes().splitlines()
    return [parse_json(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1) if line.strip()]


def parse_json(text: bytes | str, name: str) -> Any:
    """The value that a JSON text holds.

    A byte order mark is skipped, UTF-16 and UTF-32 are recognised. What :mod:`json` accepts beyond the standard is
    refused (``NaN``), and so is what is read differently by different readers: a key twice in one object, numbers
    beyond float64, half of a surrogate pair, more than :data:`MAX_DEPTH` levels.

    Args:
        name: what the message calls the text.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        value = json.loads(
            text.removeprefix("\ufeff") if isinstance(text, str) else text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _check_depth(value)
        if _may_hold_surrogates(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{name} is damaged or no JSON (too many levels); get or write it again") from None
    except UnicodeError:
        raise ValueError(f"{name} is damaged or no JSON (no Unicode text); get or write it again") from None
    except ValueError as error:
        raise ValueError(f"{name} is damaged or no JSON ({error}); get or write it again") from None
    return value


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} levels")


def _may_hold_surrogates(text: bytes | str) -> bool:
    if isinstance(text, str):
        return True
    return b"\\ud" in text.lower() or b"\xed" in text or b"\x00" in text
