"""Pascal Context: whole scenes, in 59 of its 459 classes and the background."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from goca.datasets.files import FileDataset, Pair, read_list, read_text
from goca.datasets.labels import check_scipy, make_table, map_ids, read_matlab_ids


class Context(FileDataset):
    """Pascal Context: MATLAB files whose ``LabelMap`` holds the 459 ids of ``labels.txt``.

    The 59 classes are found in ``labels.txt`` by their names; all other ids, and 0, are background. The file
    ``59_labels.txt`` of the download is not needed: the classes are in alphabetical order here.

    The root holds, side by side or in ``VOCdevkit/VOC2010``: ``JPEGImages`` of VOC 2010, ``trainval/*.mat`` and
    ``labels.txt`` of Pascal Context, and the lists ``train.txt`` and ``val.txt`` (4998 and 5105 names) in
    ``ImageSets/SegmentationContext`` or else ``ImageSets/Main``, where VOC 2010 itself has them. The split
    ``segmentation-train`` is VOC 2010's list ``ImageSets/Segmentation/train.txt`` (964 names), by which the published
    experiments go; where that file is not there, ``train``.
    """

    key = "context"
    layout = (
        "VOCdevkit/VOC2010/{JPEGImages,ImageSets/Main/{train,val}.txt} (or ImageSets/SegmentationContext), "
        "trainval/*.mat and labels.txt in its root"
    )
    source = (
        "the images and lists of Pascal VOC 2010 (host.robots.ox.ac.uk/pascal/VOC) and the labels of Pascal Context "
        "(trainval.tar.gz and labels.txt, from the Pascal-Context site of Roozbeh Mottaghi)"
    )

    splits = ("train", "val", "segmentation-train")

    def find_pairs(self) -> Iterable[Pair]:
        check_scipy()
        pictures = self._locate("JPEGImages")
        labels = self._locate("trainval")
        names = self._find_list(pictures.parent / "ImageSets")
        self.image_list = str(names.relative_to(pictures.parent))
        for path in (names, labels.parent / "labels.txt"):
            if not path.is_file():
                raise self.missing(path)
        self.table = make_table(self._class_of_id(labels.parent / "labels.txt"))
        return [Pair(pictures / f"{name}.jpg", labels / f"{name}.mat") for name in read_list(names)]

    def read_labels(self, index: int) -> UInt8[np.ndarray, "height width"]:
        path = self.pairs[index].labels
        return map_ids(read_matlab_ids(path, "LabelMap"), self.table, path)

    def _find_list(self, lists: Path) -> Path:
        published = lists / "Segmentation" / "train.txt"
        if self.split == "segmentation-train" and published.is_file():
            return published
        folder = self.find_folder(lists / "SegmentationContext", lists / "Main")
        return folder / f"{self.split.removeprefix('segmentation-')}.txt"

    def _locate(self, folder: str) -> Path:
        places = ("VOCdevkit/VOC2010", "VOC2010", "pascal-context", ".")
        return self.find_folder(*(self.root / place / folder for place in places))

    def _class_of_id(self, path: Path) -> dict[int, int]:
        """Class of each id of ``labels.txt``, whose lines are like ``1: accordion``."""
        ids: dict[str, int] = {}
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            value, colon, name = line.partition(":")
            if line.strip() and not (colon and value.strip().isdecimal()):
                raise ValueError(f"line {number} of {path} is not like '1: accordion'; get the file again")
            if colon:
                ids["".join(name.split())] = int(value)
        wanted = {words[0].replace(" ", ""): index for index, words in enumerate(self.classes) if words}
        absent = sorted(wanted.keys() - ids.keys())
        if absent:
            raise ValueError(f"{path} lacks the class {absent[0]} of the 59; get the file again")
        return {0: 0} | {value: wanted.get(name, 0) for name, value in ids.items()}
