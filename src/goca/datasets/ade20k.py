"""ADE20K: whole scenes, in the 150 classes of its benchmark and the rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from goca.datasets.files import FileDataset, Pair, list_files
from goca.datasets.labels import make_table

_FOLDERS = {"train": ("training", "train"), "val": ("validation", "val")}


class Ade20k(FileDataset):
    """ADE20K of the scene parsing challenge: grey PNGs of 0 (anything else: the background) to 150.

    The root is ``ADEChallengeData2016`` or the folder that holds it. The synonyms are those of its
    ``objectInfo150.txt``.
    """

    key = "ade20k"
    layout = "ADEChallengeData2016/{images,annotations}/{training,validation} in its root"
    source = "the scene parsing benchmark of ADE20K (ADEChallengeData2016.zip, from sceneparsing.csail.mit.edu)"
    table = make_table({index: index for index in range(151)})

    def find_pairs(self) -> Iterable[Pair]:
        return self.pair_up(
            list_files(self._locate("images"), (".jpg", ".jpeg", ".png")),
            list_files(self._locate("annotations"), (".png",)),
        )

    def _locate(self, kind: str) -> Path:
        places = (self.root / "ADEChallengeData2016", self.root)
        return self.find_folder(*(place / kind / name for place in places for name in _FOLDERS[self.split]))
