"""What the data sets on disk share: finding files, saying what is missing, reading pairs of image and labels."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int16, UInt8

from goca.classes import BACKGROUND
from goca.datasets.base import Dataset, Sample
from goca.datasets.labels import map_ids, read_ids, turn_labels
from goca.lookup import look_up
from goca.storage.digest import digest
from goca.text.spans import is_punctuation

CLASS_LISTS = Path(__file__).parent / "classes"


@dataclass(frozen=True)
class Pair:
    """An image file and the file of its labels."""

    image: Path
    labels: Path


class FileDataset(Dataset):
    """A data set of pairs of files. Whether all of them are there is checked when it is opened.

    Attributes:
        layout: what the root folder must hold.
        source: its official name and where to get it.
        splits: all there are, none for a data set that has just one part.
        table: class of each official id, see :func:`goca.datasets.labels.make_table`.
        drawn_as_stored: whether the labels are known to ignore the images' EXIF orientation, as benchmarks' do.
    """

    layout: ClassVar[str]
    source: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    default_split: ClassVar[str] = "val"
    drawn_as_stored: ClassVar[bool] = True
    table: Int16[np.ndarray, " ids"]

    def __init__(self, root: str | Path | None = None, split: str | None = None) -> None:
        self.root = self._check_root(root)
        self.split = check_split(self.key, split, self.splits) or self.default_split
        self.image_list = f"all of the split {self.split}"
        self.classes = self.find_classes()
        self.pairs = tuple(self.find_pairs())
        self.names = tuple(pair.image.name for pair in self.pairs)
        self._check_pairs()

    @abstractmethod
    def find_pairs(self) -> Iterable[Pair]:
        """The files of the split, in order.

        Raises:
            ValueError: a list or folder that is missing or damaged.
        """

    def find_classes(self) -> tuple[tuple[str, ...], ...]:
        """The synonyms of each class."""
        return read_classes(CLASS_LISTS / f"{self.key}.txt")

    def read_labels(self, index: int) -> UInt8[np.ndarray, "height width"]:
        """The labels of one sample, read from its file."""
        path = self.pairs[index].labels
        return map_ids(read_ids(path), self.table, path)

    def __getitem__(self, index: int) -> Sample:
        from goca.images import load_file, orientation, turn, upright_rgb  # torch comes with it

        pair = self.pairs[index]
        stored = load_file(pair.image)
        image = upright_rgb(stored, str(pair.image))
        labels = turn_labels(
            self.read_labels(index), pair.labels, stored, pair.image, drawn_as_stored=self.drawn_as_stored
        )
        height, width = labels.shape
        if (width, height) != image.size:
            raise ValueError(
                f"{pair.labels} has {width} x {height} pixels, but its image {pair.image} has "
                f"{image.width} x {image.height}; get both files again"
            )
        unconverted = None if stored.mode == "RGB" else turn(stored, orientation(stored))
        return Sample(self.names[index], image, labels, stored=unconverted)

    def digest(self, index: int) -> str:
        pair = self.pairs[index]
        try:
            parts = [path.read_bytes() for path in (pair.image, pair.labels)]
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read ({error.strerror}); check it") from None
        return digest(*parts, self.read_beside(index).encode())

    def read_beside(self, index: int) -> str:
        """What else the sample depends on than its two files: here how ids become classes."""
        table = getattr(self, "table", None)
        return "" if table is None else str(table.tolist())

    def find_folder(self, *candidates: Path) -> Path:
        """The first of some folders that exists.

        Raises:
            ValueError: none does.
        """
        for folder in candidates:
            if folder.is_dir():
                return folder
        raise self.missing(candidates[0])

    def missing(self, path: Path, more: int = 0) -> ValueError:
        """The error for a file or folder that is not there."""
        others = f" (and {more} more)" if more else ""
        return ValueError(f"{path} is missing{others}; {self._wanted()}")

    def pair_up(self, images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[Pair]:
        """Pairs of the files with the same key, sorted by it.

        Raises:
            ValueError: a file without partner, or no files at all.
        """
        for found, partners, kind in ((images, labels, "label file"), (labels, images, "image")):
            lonely = sorted(found.keys() - partners.keys())
            if lonely:
                others = f" ({len(lonely)} such files)" if len(lonely) > 1 else ""
                raise ValueError(f"{found[lonely[0]]} has no {kind}{others}; {self._wanted()}")
        if not images:
            raise ValueError(f"there are no images of the split {self.split!r} in {self.root}; {self._wanted()}")
        return [Pair(images[key], labels[key]) for key in sorted(images)]

    def _wanted(self) -> str:
        splits = f" (splits: {', '.join(self.splits)})" if self.splits else ""
        return f"{self.key} reads {self.layout}{splits}; get {self.source}"

    def _check_root(self, root: str | Path | None) -> Path:
        if root is None:
            raise ValueError(f"{self.key} needs the folder of its files as root; {self._wanted()}")
        if not Path(root).is_dir():
            raise ValueError(f"there is no folder {root}; {self._wanted()}")
        return Path(root)

    def _check_pairs(self) -> None:
        paths = [path for pair in self.pairs for path in (pair.image, pair.labels)]
        present = {folder: set(os.listdir(self.find_folder(folder))) for folder in {path.parent for path in paths}}
        absent = [path for path in paths if path.name not in present[path.parent]]
        if absent:
            raise self.missing(absent[0], len(absent) - 1)
        if not paths:
            raise ValueError(f"{self.root} holds no images of the split {self.split!r}; {self._wanted()}")


def check_split(key: str, split: str | None, splits: Sequence[str]) -> str | None:
    """The split, if it is one of ``splits``.

    Raises:
        ValueError: it is not.
    """
    if split is None:
        return None
    if not splits:
        raise ValueError(f"{key} has no splits; leave {split!r} out")
    return str(look_up(splits, split, f"split of {key}"))


def list_files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, Path]:
    """The files of a folder by their name without suffix and ``ending``; hidden ones and others are left out.

    Raises:
        ValueError: two files of the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        stem = path.stem.removesuffix(ending)
        if stem in found:
            raise ValueError(f"{found[stem]} and {path} have the same name; rename or remove one of them")
        found[stem] = path
    return found


def read_text(path: Path) -> str:
    """The text of a small file.

    Raises:
        ValueError: it is missing or no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; get it again or convert it") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check it") from None


def read_classes(path: Path) -> tuple[tuple[str, ...], ...]:
    """One class per line, its synonyms separated by ``|``; a first line ``background`` is the background.

    Raises:
        ValueError: the file is missing or no text, an empty line among the others, the background at another place,
            a class named twice, or more than 255 classes.
    """
    lines = [[" ".join(word.split()) for word in line.split("|")] for line in read_text(path).rstrip().splitlines()]
    first: dict[str, int] = {}
    for number, words in enumerate(lines, start=1):
        if not all(words):
            raise ValueError(f"line {number} of {path} names no class, or an empty synonym; write one class per line")
        if any(map(is_punctuation, words)):
            raise ValueError(f"line {number} of {path} has punctuation for a name; write words")
        if words[0] == BACKGROUND and number > 1:
            raise ValueError(f"line {number} of {path} is the background; make it the first line")
        if words[0] in first:
            raise ValueError(f"lines {first[words[0]]} and {number} of {path} are both {words[0]!r}; rename one")
        first[words[0]] = number
    if not 0 < len(lines) <= 255:
        raise ValueError(f"{path} names {len(lines)} classes; write 1 to 255 of them, one per line")
    return tuple(() if words[0] == BACKGROUND else tuple(words) for words in lines)


def read_list(path: Path) -> list[str]:
    """The first word of each line; empty lines do not count.

    Raises:
        ValueError: the file is missing or no text, or a name stands there twice.
    """
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} names {twice} twice; remove one of the lines")
    return names
