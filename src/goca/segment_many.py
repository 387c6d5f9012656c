"""Segment many images and write the results as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goca.classes import BACKGROUND
from goca.export import DEFAULT_FORMATS, Exporter
from goca.images import read_image
from goca.lookup import Names
from goca.segmenter import Segmenter
from goca.storage.names import file_stems

SHOWN = 5  # names of images in a message


@dataclass(frozen=True)
class SavedSegmentation:
    """What is known of an image whose segmentation has been written.

    Attributes:
        image: its path.
        areas: share of the pixels by class; they sum to 1.
        files: paths by what they hold, see :class:`goca.export.Exporter`.
        notes: sentences that the user should read.
    """

    image: str
    areas: dict[str, float]
    files: dict[str, Path]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SavedSegmentations:
    """The segmentations of some images, and the files that hold all of them."""

    images: tuple[SavedSegmentation, ...]
    files: dict[str, Path]

    @property
    def notes(self) -> list[str]:
        """The notes of all images, each once."""
        return list(dict.fromkeys(note for each in self.images for note in each.notes))


def segment_many(
    segmenter: Segmenter,
    images: str | Sequence[str],
    classes: Names,
    out: str | Path,
    *,
    caption: str | None = None,
    background: Names = (),
    threshold: float | None = None,
    seed: int = 0,
    formats: Names = DEFAULT_FORMATS,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SavedSegmentations:
    """Segment image files into the same classes, one after the other, and write each result before the next image.

    Images that cannot be read, classes that do not fit and files that are there already are refused before anything is
    written. After a later error the images before it are written whole, and the message names them.

    Args:
        images: paths, or one path; of images with the same name the second is written as ``NAME-2``.
        out: folder for the files.
        classes, caption, background, threshold, seed: see :meth:`goca.Segmenter.__call__`.
        formats: keys of :data:`goca.export.FORMATS`.
        overwrite: replace files that are there already, but for ``images``.
        progress: gets (images done, images in all).

    Raises:
        ValueError: an image that cannot be read, an unknown format, or classes that do not fit the model or caption.
        FileExistsError: a file is there already, and ``overwrite`` is not set; or it is one of ``images``.
        OSError: the folder cannot be written to.
    """
    images = [images] if isinstance(images, str) else images
    exporter, stems = Exporter(out, formats, overwrite=overwrite, inputs=images), file_stems(images)
    check_images(images)
    prompt = segmenter.prompt(classes, caption=caption, background=background)
    exporter.check(stems, [*(concept.name for concept in prompt.classes), BACKGROUND])
    saved: list[SavedSegmentation] = []
    try:
        for done, (image, stem) in enumerate(zip(images, stems, strict=True)):
            progress(done, len(images))
            result = segmenter(image, classes, caption=caption, background=background, threshold=threshold, seed=seed)
            saved.append(SavedSegmentation(image, result.areas, exporter.add(result, stem), result.notes))
    except (ValueError, OSError, MemoryError) as error:
        if not saved:
            raise
        exporter.finish()
        raise cut_short(error, [each.image for each in saved], len(images), Path(out)) from error
    return SavedSegmentations(tuple(saved), exporter.finish())


def cut_short(error: Exception, done: Sequence[str], count: int, out: Path) -> Exception:
    """The error of a run that stopped after some images, with their names."""
    names = ", ".join(done[:SHOWN]) + (" ..." if len(done) > SHOWN else "")
    kind = next(kind for kind in (ValueError, OSError, MemoryError) if isinstance(error, kind))
    return kind(f"{' '.join(str(error).split())} ({len(done)} of {count} images are whole in {out}: {names})")


def check_images(images: Sequence[str]) -> None:
    """Decode every image once, so that a bad one is refused before anything is computed or written."""
    for image in images:
        read_image(image)
