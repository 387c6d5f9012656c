"""One class of a result, where it is in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from goca.polygons import Polygon, trace_polygons

if TYPE_CHECKING:
    from goca.result import Segmentation

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Segment:
    """The pixels of one class in one image; at least one.

    Attributes:
        name: of the class.
        index: of the class in the result.
        mask: [height, width].
        result: whose class it is.
    """

    name: str
    index: int
    mask: Bool[np.ndarray, "height width"]
    result: Segmentation

    @property
    def confidence(self) -> float:
        """In [0, 1], see :attr:`goca.Segmentation.confidence` and :attr:`goca.Segmentation.confidence_meaning`."""
        return self.result.confidence[self.name]

    @property
    def area(self) -> int:
        """In pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> Box:
        """Left, top, right, bottom in pixels; right and bottom are the first column and row after the mask."""
        columns, rows = np.flatnonzero(self.mask.any(axis=0)), np.flatnonzero(self.mask.any(axis=1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def polygons(self) -> list[Polygon]:
        """The outlines of its connected parts, see :func:`goca.polygons.trace_polygons`."""
        return trace_polygons(self.mask)

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, {self.area} pixels, confidence {self.confidence:.2f})"
