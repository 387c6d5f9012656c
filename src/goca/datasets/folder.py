"""A folder of one's own images and masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from goca.datasets.base import VOID, Sample
from goca.datasets.files import FileDataset, Pair, list_files, read_classes
from goca.datasets.labels import make_table
from goca.image_files import IMAGE_SUFFIXES


class Folder(FileDataset):
    """Images, masks of class ids, and a list of the classes; ``goca scenes`` writes such a folder.

    The root holds ``images/*``; ``labels/*.png`` of the same names (grey or palette, up to 16 bits; 255 is void);
    ``classes.txt``, whose first line is class 0 and so on, see :func:`goca.datasets.files.read_classes`; and if wanted
    ``captions.json`` like ``{"cat.jpg": {"caption": "cat, grass"}}`` with a caption for every image.

    Where an image has an EXIF orientation, the size of its mask tells whether it was drawn on the image as stored or as
    shown; a pair that leaves this open is refused.
    """

    key = "folder"
    layout = "images/*, labels/*.png, classes.txt and, if wanted, captions.json in its root"
    source = "an example with goca scenes"
    splits = ()
    default_split = "all"
    drawn_as_stored = False
    asks_for_synonyms = True

    def find_classes(self) -> tuple[tuple[str, ...], ...]:
        path = self.root / "classes.txt"
        if not path.is_file():
            raise self.missing(path)
        classes = read_classes(path)
        self.table = make_table({index: index for index in range(len(classes))} | {VOID: VOID})
        return classes

    def find_pairs(self) -> Iterable[Pair]:
        images = list_files(self.find_folder(self.root / "images"), IMAGE_SUFFIXES)
        pairs = self.pair_up(images, list_files(self.find_folder(self.root / "labels"), (".png",)))
        self.captions = _read_captions(self.root / "captions.json", [pair.image.name for pair in pairs])
        return pairs

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, caption=self.captions.get(sample.name))

    def read_beside(self, index: int) -> str:
        return f"{super().read_beside(index)} {self.captions.get(self.names[index])!r}"


def _read_captions(path: Path, names: list[str]) -> dict[str, str]:
    from goca.storage.captions import check_captions, load_captions  # torch comes with it

    if not path.exists():
        return {}
    captions = load_captions(path)
    mismatch = check_captions(captions, names)
    if mismatch.missing:
        raise ValueError(f"{path} has no caption for the image {mismatch.missing[0]}; add it or remove the file")
    if mismatch.unknown:
        raise ValueError(f"{path} has a caption for {mismatch.unknown[0]}, but there is no such image; remove it")
    return captions
