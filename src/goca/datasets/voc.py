"""Pascal VOC 2012: 20 kinds of objects and the background."""

from __future__ import annotations

from collections.abc import Iterable

from goca.datasets.base import VOID
from goca.datasets.files import FileDataset, Pair, read_list
from goca.datasets.labels import make_table


class Voc(FileDataset):
    """Pascal VOC 2012, segmentation: palette PNGs of 0 (background) to 20, and 255 along the outlines and on what was
    left out.

    The root is ``VOC2012``, the ``VOCdevkit`` around it, or the folder that holds that one.
    """

    key = "voc"
    layout = "VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation} in its root"
    source = "Pascal VOC 2012 (VOCtrainval_11-May-2012.tar, from the Pascal VOC site host.robots.ox.ac.uk/pascal/VOC)"
    splits = ("train", "val", "trainval")
    table = make_table({index: index for index in range(21)} | {VOID: VOID})

    def find_pairs(self) -> Iterable[Pair]:
        places = (self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012", self.root)
        base = next((place for place in places if (place / "ImageSets").is_dir()), places[0])
        names = base / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        if not names.is_file():
            raise self.missing(names)
        self.image_list = str(names.relative_to(base))
        for name in read_list(names):
            yield Pair(base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png")
