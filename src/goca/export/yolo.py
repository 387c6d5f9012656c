"""YOLO's segmentation data set: a line of numbers for each polygon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goca.classes import BACKGROUND
from goca.export.data_set import DataSetFormat
from goca.polygons import join_holes, trace_polygons
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation


class YoloFormat(DataSetFormat):
    """``yolo/``: images/STEM.png, labels/STEM.txt and data.yaml.

    A line is ``class x1 y1 x2 y2 ...`` with shares of the width and height: one connected part of a class, its holes
    joined to its outline by a cut of no width. The background has no number and no lines.
    """

    home = "yolo"
    description = "data.yaml"
    patterns = ("images/*.png", "labels/*.txt")

    def __init__(self) -> None:
        self.classes: list[str] = []

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        files = self.planned_files(folder, stem, result.classes)
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        result.image.save(files["yolo image"])
        files["yolo labels"].write_text("".join(self._lines(result)), encoding="ascii")
        return files

    def finish(self, folder: Path) -> Files:
        path = folder / self.home / self.description
        path.parent.mkdir(parents=True, exist_ok=True)
        names = "".join(f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(self.classes))
        write_atomically(path, f"path: .\ntrain: images\nval: images\nnames:{' {}' if not names else ''}\n{names}")
        return {"yolo description": path}

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        return {
            "yolo image": folder / self.home / "images" / f"{stem}.png",
            "yolo labels": folder / self.home / "labels" / f"{stem}.txt",
        }

    def _lines(self, result: Segmentation) -> list[str]:
        self.classes += [name for name in result.classes if name not in (*self.classes, BACKGROUND)]
        size = np.array([result.image.width, result.image.height])
        lines = []
        for index, name in enumerate(result.classes):
            if name == BACKGROUND:
                continue
            for polygon in trace_polygons(result.labels == index):
                places = " ".join(f"{share:.6g}" for share in (join_holes(polygon) / size).flatten())
                lines.append(f"{self.classes.index(name)} {places}\n")
        return lines
