"""Labels with the background at 0 and one number a class over all images, as labelling tools want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer
from PIL import Image

from goca.classes import BACKGROUND
from goca.export.folder import VoidLabels, shared_labels
from goca.export.registry import too_many_classes
from goca.render import MAX_CLASSES, Colour, add_colours, indexed_image

if TYPE_CHECKING:
    from goca.result import Segmentation


class LabelMap:
    """The classes of some images: ``background``, whether or not an image has one, then the others as they occur."""

    def __init__(self) -> None:
        self.classes = [BACKGROUND]
        self.void = VoidLabels()
        self._colours: dict[str, Colour] = {BACKGROUND: (0, 0, 0)}

    @property
    def colours(self) -> tuple[Colour, ...]:
        """One for each class, no two the same: that of the results; black for the background."""
        return tuple(self._colours[name] for name in self.classes)

    def labels(self, result: Segmentation) -> Integer[np.ndarray, "height width"]:
        """The labels of one image; 255 where it is ignored.

        Raises:
            ValueError: more classes than the pixels of an 8-bit picture can tell.
        """
        labels = shared_labels(result, self.classes)
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(too_many_classes(len(self.classes)))
        add_colours(self._colours, result.classes, result.colours)
        return self.void.fill(labels, len(self.classes))

    def grey(self, result: Segmentation) -> Image.Image:
        """The labels of one image as a grey picture."""
        return Image.fromarray(self.labels(result).astype(np.uint8))

    def picture(self, result: Segmentation) -> Image.Image:
        """The labels of one image as a palette picture."""
        labels = self.labels(result)  # first: it may add colours
        return indexed_image(labels, self.colours)
