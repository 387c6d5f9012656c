"""The registry of output formats, and the writer of many images in several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from goca.lookup import look_up
from goca.storage.atomic import staged_folder

if TYPE_CHECKING:
    from goca.result import Segmentation

DEFAULT_FORMATS = ("labels", "overlay", "heat", "json")

Files = dict[str, Path]
WriteImage = Callable[["Segmentation", Path, str], Files]


class Format:
    """Writes segmentations into a folder; one object for each folder.

    A format with files for every image writes them in :meth:`add`; one with a file for all images collects there what
    it needs and writes in :meth:`finish`. Both return the files that they wrote, each under a key of its own.
    """

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        """Take one image; its files start with ``stem``, which no other image has."""
        return {}

    def finish(self, folder: Path) -> Files:
        """Write the files that hold all images."""
        return {}


class ImageFormat(Format):
    """A format with files for every image, written by a function."""

    def __init__(self, write: WriteImage) -> None:
        self.write = write

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        return self.write(result, folder, stem)


FORMATS: dict[str, Callable[[], Format]] = {}
Registered = TypeVar("Registered", bound=Callable)


def register(name: str) -> Callable[[Registered], Registered]:
    """Decorator that makes an output format known under ``name``.

    It takes a function of (:class:`goca.Segmentation`, folder, stem) that writes the files of one image and returns
    their paths by key, or a subclass of :class:`Format` without arguments.
    """

    def add(writer: Registered) -> Registered:
        is_class = isinstance(writer, type) and issubclass(writer, Format)
        FORMATS[name] = writer if is_class else partial(ImageFormat, writer)
        return writer

    return add


class Exporter:
    """Writes the segmentations of many images into one folder.

    Of each image, and of the files that hold all images, either all files are written or none.

    Args:
        folder: is made where it is missing.
        formats: keys of :data:`FORMATS`.

    Raises:
        ValueError: unknown format.
    """

    def __init__(self, folder: str | Path, formats: Sequence[str] = DEFAULT_FORMATS) -> None:
        self.folder = Path(folder)
        self.formats = [look_up(FORMATS, name, "format")() for name in dict.fromkeys(formats)]

    def add(self, result: Segmentation, stem: str) -> Files:
        """Write the files of one image.

        Raises:
            OSError: the folder cannot be written to.
        """
        return self._write(lambda each, scratch: each.add(result, scratch, stem))

    def finish(self) -> Files:
        """Write the files that hold all images.

        Raises:
            OSError: the folder cannot be written to.
        """
        return self._write(lambda each, scratch: each.finish(scratch))

    def _write(self, write: Callable[[Format, Path], Files]) -> Files:
        files: Files = {}
        with staged_folder(self.folder) as scratch:
            for each in self.formats:
                files |= write(each, scratch)
            return {key: self.folder / path.relative_to(scratch) for key, path in files.items()}
