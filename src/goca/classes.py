"""Names of classes, and the label of pixels that have none."""

from __future__ import annotations

from collections.abc import Sequence

BACKGROUND = "background"
VOID = 255
"""Label of pixels that belong to no class: nobody said (in targets), or the result is not sure enough."""


def class_names(classes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One name per class, given the synonyms of each: the first, and ``background`` where there are none."""
    return tuple(words[0] if words else BACKGROUND for words in classes)
