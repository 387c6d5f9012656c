"""Names of files for things that have names of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from goca.messages import is_hidden


def file_names(names: Sequence[str]) -> list[str]:
    """Lower-case file name parts of class names or prompts, all different: letters, digits, ``-`` and ``_``."""
    bases = (re.sub(r"[^\w]+", "-", name.lower()).strip("-")[:60] or "class" for name in names)
    return _numbered(list(bases))


def file_stems(paths: Sequence[str]) -> list[str]:
    """One stem per file for its results; the second ``cat`` of another folder becomes ``cat-2``. Characters that cannot
    be seen, or are no text, become ``_``."""
    return _numbered(["".join("_" if is_hidden(each) else each for each in Path(path).stem) for path in paths])


def _numbered(bases: Sequence[str]) -> list[str]:
    """The names, those that are taken already (in whatever case) with a number from 2 on."""
    taken: set[str] = set()
    names = []
    for base in bases:
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names
