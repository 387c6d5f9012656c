"""COCO-Object: the 80 things of COCO's panoptic annotations; all else is background."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from goca.datasets.base import VOID
from goca.datasets.coco import SOURCE, categories, image_folder
from goca.datasets.files import FileDataset, Pair
from goca.datasets.labels import read_colour_ids
from goca.storage.json_reader import read_json

_THINGS = tuple(value for value, category in categories().items() if category.kind == "thing")


class CocoObject(FileDataset):
    """COCO 2017, panoptic: RGB PNGs of segment ids (red + 256 green + 65536 blue), whose categories a JSON file tells.

    Things, crowds included, are classes 1 to 80 in the order of their official ids; stuff is background. The id 0 is
    unlabelled: void, as the panoptic format has it, which the protocol ``paper`` counts as background.

    The root holds COCO's ``val2017`` (itself or in ``images``), ``annotations/panoptic_val2017.json`` and the unpacked
    ``annotations/panoptic_val2017``.
    """

    key = "coco-object"
    layout = "val2017/*.jpg, annotations/panoptic_val2017.json and annotations/panoptic_val2017/*.png in its root"
    source = f"COCO's val2017 images and panoptic_annotations_trainval2017.zip (unpack the zip files in it) {SOURCE}"

    def find_classes(self) -> tuple[tuple[str, ...], ...]:
        return ((), *(categories()[value].words for value in _THINGS))

    def find_pairs(self) -> Iterable[Pair]:
        name = f"panoptic_{self.split}2017"
        path = self.root / "annotations" / f"{name}.json"
        if not path.is_file():
            raise self.missing(path)
        images = image_folder(self)
        labels = self.find_folder(self.root / "annotations" / name, self.root / name)
        try:
            files, self.segments = _read_panoptic(read_json(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{path} is damaged or no panoptic annotation ({reason}); get it again") from None
        return [Pair(images / image, labels / label) for image, label in files]

    def read_labels(self, index: int) -> UInt8[np.ndarray, "height width"]:
        path = self.pairs[index].labels
        ids = read_colour_ids(path)
        values, places = np.unique(ids, return_inverse=True)
        known = {0: VOID} | self.segments[index]
        unknown = [value for value in values.tolist() if value not in known]
        if unknown:
            raise ValueError(f"{path} holds the segment id {unknown[0]}, which its JSON file lacks; get both again")
        classes = np.array([known[value] for value in values.tolist()], np.uint8)
        return classes[places].reshape(ids.shape)

    def read_beside(self, index: int) -> str:
        return str(sorted(self.segments[index].items()))


def _read_panoptic(content: Any) -> tuple[list[tuple[str, str]], tuple[dict[int, int], ...]]:
    """Names of image and label file, and class of each segment, per annotation."""
    class_of = {each["id"]: _class_of(each["id"], each["isthing"]) for each in content["categories"]}
    images = {each["id"]: each["file_name"] for each in content["images"]}
    files = [(images[each["image_id"]], each["file_name"]) for each in content["annotations"]]
    for name in (name for pair in files for name in pair):
        if not isinstance(name, str):
            raise ValueError(f"the file name {name!r} is no text")
    segments = tuple(
        {part["id"]: class_of[part["category_id"]] for part in each["segments_info"]} for each in content["annotations"]
    )
    return files, segments


def _class_of(category: int, is_thing: int) -> int:
    if is_thing and category not in _THINGS:
        raise ValueError(f"it has a thing of category {category}, which COCO lacks")
    return _THINGS.index(category) + 1 if is_thing else 0
