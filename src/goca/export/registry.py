"""The registry of output formats, and the writer of many images in several of them."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from goca.classes import BACKGROUND
from goca.lookup import Names, look_up, read_names
from goca.render import MAX_CLASSES
from goca.storage.atomic import remove_leftovers, staged_folder
from goca.storage.outputs import refuse_existing

if TYPE_CHECKING:
    from goca.result import Segmentation

DEFAULT_FORMATS = ("labels", "overlay", "heat", "json")
DEFAULT_STEM = "image"

Files = dict[str, Path]
WriteImage = Callable[["Segmentation", Path, str], Files]
NameFiles = Callable[[Path, str, Sequence[str]], Files]
FindFiles = Callable[[Path, str], list[Path]]


class Format:
    """Writes segmentations into a folder; one object for each folder.

    A format with files for every image writes them in :meth:`add`; one with a file for all images collects there what
    it needs and writes in :meth:`finish`. Both return the files that they wrote, each under a key of its own.
    The other methods let files that are there already be refused before anything is computed.

    Attributes:
        most_classes: how many classes all images together may have, the background aside; ``None`` for any number.
    """

    most_classes: ClassVar[int | None] = None

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        """Take one image; its files start with ``stem``, which no other image has."""
        return {}

    def finish(self, folder: Path) -> Files:
        """Write the files that hold all images."""
        return {}

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        """What :meth:`add` will write for an image with these classes, as far as that is known."""
        return {}

    def earlier_files(self, folder: Path, stem: str) -> list[Path]:
        """Files of an earlier result with this stem that must not stay beside a new one."""
        return []

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        """Files of an earlier run that hold all images, or that belong to them."""
        return []


class ImageFormat(Format):
    """A format with files for every image, written by a function.

    Args:
        files, earlier: what :meth:`planned_files` and :meth:`earlier_files` return.
    """

    def __init__(self, write: WriteImage, files: NameFiles, earlier: FindFiles) -> None:
        self.write, self.name_files, self.find_earlier = write, files, earlier

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        return self.write(result, folder, stem)

    def planned_files(self, folder: Path, stem: str, classes: Sequence[str]) -> Files:
        return self.name_files(folder, stem, classes)

    def earlier_files(self, folder: Path, stem: str) -> list[Path]:
        return self.find_earlier(folder, stem)


FORMATS: dict[str, Callable[[], Format]] = {}
Registered = TypeVar("Registered", bound=Callable)


def register(
    name: str,
    *,
    files: NameFiles = lambda folder, stem, classes: {},
    earlier: FindFiles = lambda folder, stem: [],
) -> Callable[[Registered], Registered]:
    """Decorator that makes an output format known under ``name``.

    It takes a function of (:class:`goca.Segmentation`, folder, stem) that writes the files of one image and returns
    their paths by key, or a subclass of :class:`Format` without arguments.

    Args:
        files, earlier: of a function: what it will write, and what it replaces, see the methods of :class:`Format`.
    """

    def add(writer: Registered) -> Registered:
        is_class = isinstance(writer, type) and issubclass(writer, Format)
        FORMATS[name] = writer if is_class else partial(ImageFormat, writer, files, earlier)
        return writer

    return add


class Exporter:
    """Writes the segmentations of many images into one folder.

    Of each image, and of the files that hold all images, either all files are written or none.

    Args:
        folder: is made where it is missing.
        formats: keys of :data:`FORMATS`, a list of them or a string with commas.
        overwrite: replace files that are there already, and remove heat maps and annotations of the earlier run.
        inputs: files that the run reads; they are never replaced.

    Raises:
        ValueError: unknown format.
        FileExistsError: the folder holds files for all images of an earlier run, and ``overwrite`` is not set.
    """

    def __init__(
        self,
        folder: str | Path,
        formats: Names = DEFAULT_FORMATS,
        *,
        overwrite: bool = False,
        inputs: Sequence[str | Path] = (),
    ) -> None:
        self.folder, self.overwrite, self.inputs = Path(folder), overwrite, inputs
        self.formats = [look_up(FORMATS, name, "format")() for name in dict.fromkeys(read_names(formats, "format"))]
        self._shared = [path for each in self.formats for path in each.earlier_shared_files(self.folder)]
        self._written: set[Path] = set()
        refuse_existing(self._shared, overwrite, inputs)
        remove_leftovers(self.folder, self.folder.parent)

    def check(self, results: Mapping[str, Sequence[str]]) -> None:
        """Refuse early what :meth:`add` would refuse.

        Args:
            results: the classes that the result with a stem will have.

        Raises:
            FileExistsError: a file that is there already, is an input, or would be written twice.
            ValueError: more classes than a format holds.
        """
        planned: set[Path] = set()
        for stem, classes in results.items():
            files = self._files(stem, classes)
            refuse_existing(files, self.overwrite, self.inputs)
            refuse_existing(self._earlier(stem), self.overwrite)
            twice = planned.intersection(files)
            if twice:
                raise FileExistsError(f"two images would be written to {twice.pop()}; rename one of them")
            planned.update(files)
        count = len({name for classes in results.values() for name in classes if name != BACKGROUND})
        if any(each.most_classes is not None and count > each.most_classes for each in self.formats):
            raise ValueError(too_many_classes(count + 1))

    def add(self, result: Segmentation, stem: str) -> Files:
        """Write the files of one image.

        Raises:
            FileExistsError: see :meth:`check`. OSError: the folder cannot be written to.
        """
        return self._write(lambda each, scratch: each.add(result, scratch, stem), self._earlier(stem))

    def finish(self) -> Files:
        """Write the files that hold all images.

        Raises:
            OSError: the folder cannot be written to.
        """
        return self._write(lambda each, scratch: each.finish(scratch))

    def write_one(self, result: Segmentation, stem: str | None = None) -> Files:
        """Write all files of the only image.

        Args:
            stem: by default ``image``, or without ``overwrite`` the first of ``image``, ``image-2`` and so on that no
                file of the folder starts with.

        Raises:
            FileExistsError: see :meth:`check`. OSError: the folder cannot be written to.
        """

        def write(name: str) -> Files:
            self.check({name: result.classes})
            return self._write(
                lambda each, scratch: each.add(result, scratch, name) | each.finish(scratch), self._earlier(name)
            )

        if stem is not None or self.overwrite:
            return write(stem or DEFAULT_STEM)
        for name in self._free_stems():
            try:
                return write(name)
            except FileExistsError:
                if not self._is_taken(name):  # else another thread was faster
                    raise
        raise AssertionError("stems have no end")

    def _free_stems(self) -> Iterator[str]:
        stems = (DEFAULT_STEM if number == 1 else f"{DEFAULT_STEM}-{number}" for number in count(1))
        return (stem for stem in stems if not self._is_taken(stem))

    def _is_taken(self, stem: str) -> bool:
        return any(self.folder.glob(f"{glob.escape(stem)}[._]*"))

    def _files(self, stem: str, classes: Sequence[str]) -> list[Path]:
        return [path for each in self.formats for path in each.planned_files(self.folder, stem, classes).values()]

    def _earlier(self, stem: str) -> list[Path]:
        return [path for each in self.formats for path in each.earlier_files(self.folder, stem)]

    def _write(self, write: Callable[[Format, Path], Files], earlier: Sequence[Path] = ()) -> Files:
        files: Files = {}
        stale = {*earlier, *self._shared} - self._written
        refuse_existing(stale, self.overwrite)
        with staged_folder(self.folder, overwrite=self.overwrite, stale=stale) as scratch:
            for each in self.formats:
                files |= write(each, scratch)
            files = {key: self.folder / path.relative_to(scratch) for key, path in files.items()}
            refuse_existing(files.values(), self.overwrite, self.inputs)
            refuse_existing(self._written.intersection(files.values()))
        if files:
            self._shared = []
        self._written.update(files.values())
        return files


def too_many_classes(count: int) -> str:
    """The sentence for more classes, the background included, than the pixels of an 8-bit picture can tell."""
    return (
        f"{count} classes, the background included, do not fit into an 8-bit picture; "
        f"pass at most {MAX_CLASSES - 1}, or take the format npz or coco"
    )


def holds_many(name: str) -> bool:
    """Whether a format has files that hold all images, so that it needs all results at the end.

    Raises:
        ValueError: unknown format.
    """
    return isinstance(look_up(FORMATS, name, "format"), type)
