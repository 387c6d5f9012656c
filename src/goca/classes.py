"""Names of classes."""

from __future__ import annotations

from collections.abc import Sequence

BACKGROUND = "background"


def class_names(classes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One name per class, given the synonyms of each: the first, and ``background`` where there are none."""
    return tuple(words[0] if words else BACKGROUND for words in classes)
