"""The folder data set: images, their labels, the names of the classes, and captions; ``--dataset folder`` reads it.

``images/NAME.png``, ``labels/NAME.png`` (indexed by the lines of ``classes.txt``, counted from 0), ``classes.txt`` and
``captions.json``, like ``{"NAME.png": {"caption": "cat, grass"}}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer
from PIL import Image

from goca.classes import BACKGROUND, VOID
from goca.export.registry import Format
from goca.render import class_colours, indexed_image
from goca.storage.atomic import write_atomically
from goca.storage.captions import CAPTIONS, save_captions
from goca.storage.png import read_texts, write_png

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

CLASSES, IMAGES, LABELS = "classes.txt", "images", "labels"


class FolderFormat(Format):
    """The folder data set of some segmentations. Line 0 of ``classes.txt`` is the background, whether or not an image
    has one; ignored pixels are 255; a caption names the classes of its image."""

    def __init__(self) -> None:
        self.classes = [BACKGROUND]
        self.captions: dict[str, str] = {}
        self.void = VoidLabels()

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        labels = shared_labels(result, self.classes)
        labels = self.void.fill(labels, len(self.classes))
        self.captions[f"{stem}.png"] = ", ".join(name for name in result.classes if name != BACKGROUND)
        image, picture = write_image(folder, stem, result.image), write_labels(folder, stem, labels, self.classes)
        return {"folder image": image, "folder labels": picture}

    def finish(self, folder: Path) -> Files:
        save_captions(folder / CAPTIONS, self.captions)
        return {"folder classes": write_classes(folder, self.classes), "folder captions": folder / CAPTIONS}

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        return earlier_dataset(folder)


def earlier_dataset(folder: Path) -> list[Path]:
    """The files of the folder data set that an earlier run wrote into ``folder``, its images and labels included.

    Raises:
        FileExistsError: other pictures lie in its ``images`` or ``labels``, so that a new data set cannot take them.
    """
    texts = [path for path in (folder / CLASSES, folder / CAPTIONS) if path.exists()]
    parts = [folder / part for part in (IMAGES, LABELS) if (folder / part).is_dir()]
    pictures = [path for part in parts for path in sorted(part.iterdir())]
    foreign = [path for path in pictures if not read_texts(path)]
    if foreign:
        raise FileExistsError(
            f"{foreign[0]} was not written by goca, and a new data set would take it for its own; "
            "choose another folder with --out"
        )
    return [*texts, *pictures]


def shared_labels(result: Segmentation, classes: list[str]) -> Integer[np.ndarray, "height width"]:
    """The labels of one image as indices into ``classes``, which gets the names that it lacks; -1 where ignored."""
    classes += [name for name in result.classes if name not in classes]
    ignored = result.ignored
    labels = np.array([classes.index(name) for name in result.classes])[np.where(ignored, 0, result.labels)]
    labels[ignored] = -1
    return labels


class VoidLabels:
    """Keeps :data:`goca.classes.VOID` free for ignored pixels in the pictures of one folder, once there are any."""

    def __init__(self) -> None:
        self.used = False

    def fill(self, labels: Integer[np.ndarray, "height width"], count: int) -> Integer[np.ndarray, "height width"]:
        """The labels with that number instead of -1.

        Args:
            count: how many classes the folder has so far.

        Raises:
            ValueError: a class has that number.
        """
        ignored = labels < 0
        self.used |= bool(ignored.any())
        if self.used and count > VOID:
            raise ValueError(
                f"{count} classes, the background included, leave no number for ignored pixels, which are {VOID} in "
                f"8-bit pictures; name at most {VOID - 1}, or take the format json, npz or coco"
            )
        return np.where(ignored, VOID, labels)


def write_image(folder: Path, name: str, image: Image.Image, **texts: str) -> Path:
    """Write ``images/NAME.png`` with some texts inside."""
    path = folder / IMAGES / f"{name}.png"
    write_png(image, path, **texts)
    return path


def write_labels(folder: Path, name: str, labels: Integer[np.ndarray, "height width"], classes: Sequence[str]) -> Path:
    """Write ``labels/NAME.png``; the labels are indices into ``classes``."""
    path = folder / LABELS / f"{name}.png"
    write_png(indexed_image(labels, class_colours(classes)), path)
    return path


def write_classes(folder: Path, classes: Sequence[str]) -> Path:
    """Write ``classes.txt``."""
    path = folder / CLASSES
    write_atomically(path, "\n".join(classes) + "\n")
    return path
