"""The folder of Pascal VOC's segmentation task, for tools that import it."""

from __future__ import annotations

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

IMAGES, LABELS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
JPEG_QUALITY = 95


class VocFormat(DataSetFormat):
    """``voc/``: JPEGImages/STEM.jpg, SegmentationClass/STEM.png (palette, 0 is the background),
    ImageSets/Segmentation/default.txt and labelmap.txt."""

    home = "voc"
    description = "labelmap.txt"
    patterns = (f"{IMAGES}/*.jpg", f"{LABELS}/*.png", f"{LISTS}/default.txt")

    most_classes = MAX_CLASSES - 1

    def __init__(self) -> None:
        self.label_map = LabelMap()
        self.stems: list[str] = []

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        files = self.planned_files(folder, stem, result.classes)
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        result.image.save(files["voc image"], quality=JPEG_QUALITY)
        self.label_map.picture(result).save(files["voc labels"])
        self.stems.append(stem)
        return files

    def finish(self, folder: Path) -> Files:
        files = {
            "voc list": folder / self.home / LISTS / "default.txt",
            "voc label map": folder / self.home / self.description,
        }
        files["voc list"].parent.mkdir(parents=True, exist_ok=True)
        write_atomically(files["voc list"], "".join(f"{stem}\n" for stem in self.stems))
        write_atomically(files["voc label map"], describe_label_map(self.label_map))
        return files

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        return {
            "voc image": folder / self.home / IMAGES / f"{stem}.jpg",
            "voc labels": folder / self.home / LABELS / f"{stem}.png",
        }


def describe_label_map(label_map: LabelMap) -> str:
    """``labelmap.txt``: name:red,green,blue:parts:actions of each class."""
    rows = zip(label_map.classes, label_map.colours, strict=True)
    names = ((name.replace(":", " ").replace("\n", " "), colour) for name, colour in rows)
    return "# label:color_rgb:parts:actions\n" + "".join(
        f"{name}:{','.join(str(channel) for channel in colour)}::\n" for name, colour in names
    )
