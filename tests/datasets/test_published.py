"""The published word lists are those of the recordings, and fit our own lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from goca.datasets.coco_object import CocoObject
from goca.datasets.coco_stuff import CocoStuff
from goca.datasets.files import CLASS_LISTS, read_classes
from goca.datasets.published import PUBLISHED_KEYS, published_classes, published_indices

RECORDED = Path(__file__).parents[1] / "golden" / "alignment"
OTHER_NAMES = {
    ("voc", "television"): "tvmonitor",
    ("cityscapes", "person"): "pedestrian",
    ("coco-stuff", "electronic"): "electronics",
    ("coco-stuff", "kitchen"): "kitchen stuff",
    ("coco-stuff", "sports"): "sport equipment",
}


def own_names(key: str) -> list[str]:
    makers = {"coco-object": CocoObject.find_classes, "coco-stuff": CocoStuff.find_classes}
    return names(makers[key](None) if key in makers else read_classes(CLASS_LISTS / f"{key}.txt"))  # type: ignore


def names(classes: Sequence[tuple[str, ...]]) -> list[str]:
    return [words[0] if words else "background" for words in classes]


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_the_lists_are_the_recorded_ones(key: str) -> None:
    recorded = json.loads((RECORDED / f"{key}.json").read_text())["classes"]
    assert published_classes(key) == tuple(map(tuple, recorded))


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_every_own_class_has_its_published_one(key: str) -> None:
    own, published = own_names(key), names(published_classes(key))
    indices = published_indices(key, own)
    assert len(set(indices)) == len(own)
    expected = [OTHER_NAMES.get((key, name), name) for name in own]
    assert [published[index].replace(" ", "") for index in indices] == [name.replace(" ", "") for name in expected]


def test_what_was_not_published_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown data set with published words 'scenes'; choose one of voc, "):
        published_classes("scenes")
    with pytest.raises(ValueError, match="voc has 21 classes, not 2; give the names of all, in order"):
        published_indices("voc", ["background", "cat"])
