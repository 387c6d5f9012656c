"""COCO's panoptic format: a picture whose colours are the numbers of its segments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from goca.classes import BACKGROUND
from goca.export.registry import Format
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

FOLDER, PANOPTIC = "panoptic", "panoptic.json"


class PanopticFormat(Format):
    """``panoptic/STEM.png`` and ``panoptic.json``.

    Classes are "stuff": each has one segment an image. A pixel's segment is red + 256 green + 65536 blue; the
    background is void, 0. Segments and categories are counted from 1.
    """

    def __init__(self) -> None:
        self.classes: list[str] = []
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.segments = 0

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        files = self.planned_files(folder, stem, result.classes)
        files["panoptic labels"].parent.mkdir(parents=True, exist_ok=True)
        self.classes += [name for name in result.classes if name not in (*self.classes, BACKGROUND)]
        numbers, segments = np.zeros(result.labels.shape, dtype=np.uint32), []
        for segment in result:
            self.segments += 1
            numbers[segment.mask] = self.segments
            left, top, right, bottom = segment.box
            segments.append(
                {
                    "id": self.segments,
                    "category_id": self.classes.index(segment.name) + 1,
                    "area": segment.area,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
        channels = [(numbers >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)]
        Image.fromarray(np.stack(channels, axis=-1)).save(files["panoptic labels"])
        size = {"width": result.image.width, "height": result.image.height}
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": f"{stem}.png", **size})
        self.annotations.append({"image_id": number, "file_name": f"{stem}.png", "segments_info": segments})
        return files

    def finish(self, folder: Path) -> Files:
        categories = [
            {"id": index, "name": name, "supercategory": name, "isthing": 0}
            for index, name in enumerate(self.classes, start=1)
        ]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_atomically(folder / PANOPTIC, json.dumps(content, ensure_ascii=False) + "\n")
        return {"panoptic": folder / PANOPTIC}

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        return {"panoptic labels": folder / FOLDER / f"{stem}.png"}

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        if not (folder / PANOPTIC).exists():
            return []
        return [folder / PANOPTIC, *sorted((folder / FOLDER).glob("*.png"))]
