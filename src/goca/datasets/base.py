"""What every data set gives: samples with their true labels, the classes' names, and where its files come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from goca.classes import VOID, class_names

__all__ = ["VOID", "Dataset", "Sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its target labels.

    Attributes:
        name: the image's name, unique in the data set; the key of caption files, such as ``2009_000133.jpg``.
        image: RGB picture, upright.
        labels: (height, width) indices into :attr:`Dataset.classes`, :data:`VOID` where nobody said.
        caption: the data set's own words for the image; ``None`` where it has none.
        stored: the picture in the colour mode of its file, upright; ``None`` where that is RGB.
    """

    name: str
    image: Image.Image
    labels: UInt8[np.ndarray, "height width"]
    caption: str | None = None
    stored: Image.Image | None = None


class Dataset(ABC):
    """A split of a benchmark; made by :func:`goca.datasets.open_dataset`.

    Attributes:
        key: what users type.
        classes: synonyms per class, the first is its name. Where there is a background it is class 0 and has none.
        names: of all samples, in order.
        image_list: where the names come from, for people.
        asks_for_synonyms: whether a text made of the classes' names holds all their synonyms, as of ``--classes``. The
            benchmarks' synonyms serve to read captions and would exceed the text encoders' limits.
    """

    key: str
    classes: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    image_list: str = "all images"
    asks_for_synonyms: bool = False

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            ValueError: a file that is missing, damaged, of another size than its image, or holds unknown class ids; the
                message names the file.
        """

    def digest(self, index: int) -> str | None:
        """Of what the sample is read from, so that a run that is continued notices a change; ``None`` where it is drawn
        by the data set itself.

        Raises:
            ValueError: a file cannot be read; the message names it.
        """
        return None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_background(self) -> bool:
        """Whether class 0 is the background."""
        return not self.classes[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, ``background`` for class 0 where it is that."""
        return class_names(self.classes)
