"""COCO-Stuff: every pixel of COCO's images, in 25 coarse classes."""

from __future__ import annotations

from collections.abc import Iterable

from goca.datasets.base import VOID
from goca.datasets.coco import SOURCE, categories, image_folder
from goca.datasets.files import CLASS_LISTS, FileDataset, Pair, list_files, read_classes
from goca.datasets.labels import make_table

_CLASSES = read_classes(CLASS_LISTS / "coco-stuff.txt")


def _class_of_value() -> dict[int, int]:
    """The coarse class of each pixel value: an official id less 1, or 255 where nothing is labelled."""
    places = {words[0]: index for index, words in enumerate(_CLASSES)}
    return {value - 1: places[category.group] for value, category in categories().items()} | {255: VOID}


class CocoStuff(FileDataset):
    """COCO-Stuff 164k in coarse classes: grey PNGs of 0 to 181 (the official ids less 1) and 255, unlabelled.

    Of the 27 supercategories, 12 of things and 15 of stuff, two pairs have the same name: things 3 and stuff 15
    (counted from 1) are both food, 4 and 16 both furniture. Each pair is one class, so there are 25, in the same order:
    were all 27 kept, the mean IoU would count two classes that no pixel can have. There is no background. A class is
    also found by the names of its fine categories, such as ``dog`` for ``animal``.

    The root holds COCO's ``val2017`` (itself or in ``images``) and the label maps as ``stuffthingmaps/val2017`` or
    ``annotations/val2017``.
    """

    key = "coco-stuff"
    layout = "val2017/*.jpg and stuffthingmaps/val2017/*.png in its root"
    source = f"COCO's val2017 images {SOURCE} and stuffthingmaps_trainval2017.zip of COCO-Stuff (nightrome/cocostuff)"
    table = make_table(_class_of_value())

    def find_classes(self) -> tuple[tuple[str, ...], ...]:
        fine: dict[str, list[str]] = {words[0]: list(words) for words in _CLASSES}
        for category in categories().values():
            fine[category.group] += category.words
        return tuple(tuple(dict.fromkeys(fine[words[0]])) for words in _CLASSES)

    def find_pairs(self) -> Iterable[Pair]:
        places = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations")
        labels = self.find_folder(*(self.root / place / f"{self.split}2017" for place in places))
        return self.pair_up(list_files(image_folder(self), (".jpg",)), list_files(labels, (".png",)))
