"""COCO's categories: the ids, names and groups that the COCO data sets share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from goca.datasets.files import CLASS_LISTS, FileDataset

SOURCE = "from the COCO site cocodataset.org"


@dataclass(frozen=True)
class Category:
    """One of the 182 categories of COCO and COCO-Stuff.

    Attributes:
        kind: ``thing``, ``stuff``, or ``removed`` for a thing without annotations.
        group: its supercategory; things and stuff of the same group, like food, are not told apart.
        words: synonyms; none for the removed thing ``window``, which is called like the stuff.
    """

    kind: str
    group: str
    words: tuple[str, ...]


@lru_cache(maxsize=1)
def categories() -> dict[int, Category]:
    """The categories by their official ids, 1 to 182."""
    lines = (CLASS_LISTS / "coco.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = {}
    for line in lines:
        value, kind, group, words = line.split("\t")
        found[int(value)] = Category(kind, group, () if words == "-" else tuple(words.split("|")))
    return found


def image_folder(dataset: FileDataset) -> Path:
    """The folder of the images of the data set's split.

    Raises:
        ValueError: it is missing.
    """
    name = f"{dataset.split}2017"
    return dataset.find_folder(dataset.root / name, dataset.root / "images" / name)
