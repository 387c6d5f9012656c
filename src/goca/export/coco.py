"""Annotations in COCO's format: one per image and class, its mask in compressed run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer
from pycocotools import mask as coco_mask

from goca.export.folder import shared_labels
from goca.export.registry import Format
from goca.render import run_lengths
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

COCO = "annotations.json"


class CocoFormat(Format):
    """``annotations.json``: the masks of all images. An image's ``file_name`` is its stem with ``.png``."""

    def __init__(self) -> None:
        self.annotations = CocoAnnotations([])

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        labels = shared_labels(result, self.annotations.classes)
        self.annotations.add(f"{stem}.png", labels)
        return {}

    def finish(self, folder: Path) -> Files:
        return {"coco": self.annotations.write(folder)}

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        return [path for path in (folder / COCO,) if path.exists()]


class CocoAnnotations:
    """The annotations of some images.

    Args:
        classes: names; the category of a class is its index in the labels plus 1: categories are counted from 1.
    """

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, labels: Integer[np.ndarray, "height width"], **more: str) -> None:
        """Add one image; ``more`` are further entries, such as its caption."""
        image, size = len(self.images), {"width": labels.shape[1], "height": labels.shape[0]}
        self.images.append({"id": image, "file_name": file_name, **size, **more})
        for each in annotate(labels):
            self.annotations.append({"id": len(self.annotations) + 1, "image_id": image, **each})

    def write(self, folder: Path) -> Path:
        """Write ``annotations.json``, whole or not at all."""
        categories = [{"id": index, "name": name} for index, name in enumerate(self.classes, start=1)]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_atomically(folder / COCO, json.dumps(content, ensure_ascii=False) + "\n")
        return folder / COCO


def annotate(labels: Integer[np.ndarray, "height width"]) -> Iterator[dict[str, Any]]:
    """One annotation for each class that is there; none for ignored pixels, -1."""
    for index in np.unique(labels[labels >= 0]):
        code = run_lengths(labels == index)
        yield {
            "category_id": int(index) + 1,
            "segmentation": code,
            "area": int(coco_mask.area(code)),
            "bbox": [float(side) for side in coco_mask.toBbox(code)],
            "iscrowd": 0,
        }
