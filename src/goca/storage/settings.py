"""Settings of a run, in levels or in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(settings: Mapping[str, Any], separator: str = " ", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings in one level: ``{"protocol": {"split": "val"}}`` gives ``("protocol split", "val")``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
