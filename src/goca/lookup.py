"""Names that users type: find what they mean, or say what there is."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from goca.messages import shorten


def look_up(table: Mapping[str, Any] | Collection[str], name: str, kind: str, *, hint: str = "") -> Any:
    """The entry of ``table`` under ``name``; the name itself where the table is a list of names.

    Args:
        kind: what the names stand for, such as ``"preset"``.
        hint: what else can be done, appended to the message.

    Raises:
        ValueError: no such name; the message gives the choices and the nearest one.
    """
    if name in table:
        return table[name] if isinstance(table, Mapping) else name
    name = shorten(str(name))
    near = difflib.get_close_matches(name, table, 1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"unknown {kind} {name!r}{guess}; choose one of {', '.join(table)}{hint}")
