"""FiftyOne's ImageSegmentationDirectory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goca.export.data_set import DataSetFormat
from goca.export.label_map import LabelMap
from goca.render import MAX_CLASSES
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation


class FiftyOneFormat(DataSetFormat):
    """``fiftyone/``: data/STEM.png, labels/STEM.png (grey, 0 is the background) and mask_targets.json, the names by
    number."""

    home = "fiftyone"
    description = "mask_targets.json"
    patterns = ("data/*.png", "labels/*.png")

    most_classes = MAX_CLASSES - 1

    def __init__(self) -> None:
        self.label_map = LabelMap()

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        files = self.planned_files(folder, stem, result.classes)
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        result.image.save(files["fiftyone image"])
        self.label_map.grey(result).save(files["fiftyone labels"])
        return files

    def finish(self, folder: Path) -> Files:
        path = folder / self.home / self.description
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {str(index): name for index, name in enumerate(self.label_map.classes) if index}
        write_atomically(path, json.dumps(names, ensure_ascii=False) + "\n")
        return {"fiftyone names": path}

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        return {
            "fiftyone image": folder / self.home / "data" / f"{stem}.png",
            "fiftyone labels": folder / self.home / "labels" / f"{stem}.png",
        }
