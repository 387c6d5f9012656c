"""The words by which the published experiments name the classes of each data set, spelling mistakes included.

Protocol ``paper`` and rule ``published`` go by these; our own lists, in :attr:`goca.datasets.base.Dataset.classes`, are
better and the default elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from goca.classes import BACKGROUND
from goca.datasets.files import CLASS_LISTS, read_text
from goca.lookup import look_up

PUBLISHED_KEYS = ("voc", "context", "coco-object", "coco-stuff", "cityscapes", "ade20k")
Classes = tuple[tuple[str, ...], ...]


def published_classes(key: str) -> Classes:
    """Synonyms per class of the data set ``key``, none for class 0, the background.

    COCO-Stuff has 27 classes here, of which 15 and 16 repeat the names of 3 and 4 and never occur.

    Raises:
        ValueError: a data set without published words.
    """
    look_up(PUBLISHED_KEYS, key, "data set with published words")
    lines = read_text(CLASS_LISTS / "published" / f"{key}.txt").splitlines()
    return tuple(() if line == BACKGROUND else tuple(line.split("|")) for line in lines)


def published_indices(key: str, class_names: Sequence[str]) -> tuple[int, ...]:
    """Where each class of our own list stands in :func:`published_classes`, for turning labels into published ones.

    The orders are the same, but for Context, whose published order is not alphabetical, and COCO-Stuff, which is
    published with a background and two merged classes.

    Args:
        key: of the data set.
        class_names: its :attr:`goca.datasets.base.Dataset.class_names`.

    Raises:
        ValueError: a data set without published words, or another number of names than it has classes.
    """
    published = published_classes(key)
    if key == "context":
        places = {words[0] if words else BACKGROUND: index for index, words in enumerate(published)}
        indices = tuple(places[name.replace(" ", "")] for name in class_names)
    elif key == "coco-stuff":
        indices = (*range(1, 15), *range(17, 28))
    else:
        indices = tuple(range(len(published)))
    if len(indices) != len(class_names):
        raise ValueError(f"{key} has {len(indices)} classes, not {len(class_names)}; give the names of all, in order")
    return indices
