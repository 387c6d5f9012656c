"""Names that users type: read lists of them, find what they mean, or say what there is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any

from goca.messages import shorten

Names = str | Iterable[str]
COMMAS = ",\uff0c\u3001\ufe50\ufe51\uff64\u060c\u1363\u1802\u1808"  # full-width, ideographic, small, Arabic, ...


def read_names(names: Names, kind: str) -> list[str]:
    """Names that a user gives: a list of them, or a string with commas between them, as on the command line.

    Args:
        kind: what they name, such as ``"class"``.

    Raises:
        ValueError: neither of the two.
    """
    if isinstance(names, str):
        return [name for part in re.split(f"[{COMMAS}]", names) if (name := part.strip())]
    try:
        listed = None if isinstance(names, bytes | bytearray | Mapping | Set) else list(names)
    except TypeError:
        listed = None
    if listed is None:
        raise ValueError(
            f"give the {kind} names as a list of strings or as one string with commas, not as {type(names).__name__}"
        )
    for name in listed:
        if not isinstance(name, str):
            raise ValueError(
                f"every {kind} name is a string, not {type(name).__name__}: {str(name)[:40]} (synonyms are separated "
                "by |, like 'person|man')"
            )
    return [str(name) for name in listed]


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
