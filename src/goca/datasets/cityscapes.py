"""Cityscapes: streets, in the 19 classes of its benchmark and the background."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from goca.datasets.files import FileDataset, Pair, list_files
from goca.datasets.labels import make_table

_BENCHMARK_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


class Cityscapes(FileDataset):
    """Cityscapes, fine annotations: grey PNGs of the ids 0 to 33. The 15 ids outside the benchmark are background.

    The root holds ``gtFine`` and ``leftImg8bit``. The test images have no public labels.
    """

    key = "cityscapes"
    layout = "gtFine/SPLIT/CITY/*_gtFine_labelIds.png and leftImg8bit/SPLIT/CITY/*_leftImg8bit.png in its root"
    source = (
        "Cityscapes (gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip, from its site cityscapes-dataset.com)"
    )
    table = make_table(dict.fromkeys(range(34), 0) | {value: 1 + place for place, value in enumerate(_BENCHMARK_IDS)})

    def find_pairs(self) -> Iterable[Pair]:
        return self.pair_up(
            self._collect("leftImg8bit", "_leftImg8bit"),
            self._collect("gtFine", "_gtFine_labelIds"),
        )

    def _collect(self, kind: str, ending: str) -> dict[str, Path]:
        split = self.find_folder(self.root / kind / self.split)
        cities = sorted(path for path in split.iterdir() if path.is_dir())
        return {stem: path for city in cities for stem, path in list_files(city, (".png",), ending).items()}
