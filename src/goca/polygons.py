"""Outlines of masks as polygons, exact: their area is the mask's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

Ring = Int64[np.ndarray, "_ 2"]  # corners (x, y)


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask.

    Coordinates (x, y) are corners of pixels, from (0, 0), the upper left corner of the image, to (width, height). Rings
    are not closed: their last corner is joined with the first.

    Attributes:
        outer: its outline, clockwise.
        holes: outlines of what it surrounds, counterclockwise.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def area(self) -> int:
        """In pixels, without the holes."""
        return ring_area(self.outer) - sum(ring_area(hole) for hole in self.holes)


def ring_area(ring: Ring) -> int:
    """The area inside a ring in pixels, by the shoelace formula."""
    x, y = ring.T
    return abs(int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) // 2


def trace_polygons(mask: Bool[np.ndarray, "height width"]) -> list[Polygon]:
    """The polygons of a mask, in the order of their first pixels; pixels that touch at a corner alone are apart."""
    outers: list[Ring] = []
    holes: dict[int, list[Ring]] = {}
    owners: list[int] = []  # of every ring: the number of its polygon
    edges: np.ndarray | None = None  # of every vertical edge: the number of its ring; made for the first hole
    rings: list[Ring] = []
    for ring in _trace_rings(mask):
        x, y = ring[0]
        if mask[y, x]:
            owners.append(len(outers))
            outers.append(ring)
        else:
            if edges is None:
                edges = np.zeros((mask.shape[0], mask.shape[1] + 1), dtype=np.int32)
                for number, earlier in enumerate(rings):
                    _mark_edges(edges, earlier, number)
            gaps = np.flatnonzero(~mask[y - 1, : x + 1])  # the pixel above the hole belongs to the polygon
            owner = owners[edges[y - 1, gaps[-1] + 1 if len(gaps) else 0]]
            owners.append(owner)
            holes.setdefault(owner, []).append(np.roll(ring[::-1], 1, axis=0))
        if edges is not None:
            _mark_edges(edges, ring, len(rings))
        rings.append(ring)
    return [Polygon(ring, tuple(holes.get(number, ()))) for number, ring in enumerate(outers)]


def join_holes(polygon: Polygon) -> Ring:
    """One ring that walks around the outline and, over a cut of no width, around each hole; for formats without holes.

    Each hole is joined at its first corner with the nearest corner of what is joined so far.
    """
    joined = polygon.outer
    for hole in polygon.holes:
        at = int(np.abs(joined - hole[0]).sum(axis=1).argmin())
        joined = np.concatenate([joined[: at + 1], hole, hole[:1], joined[at:]])
    return joined


def _mark_edges(edges: np.ndarray, ring: Ring, number: int) -> None:
    for (x, first), (other, last) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if x == other:
            edges[min(first, last) : max(first, last), x] = number


def _trace_rings(mask: Bool[np.ndarray, "height width"]) -> Iterator[Ring]:
    """The outlines of a mask and of its holes, each from its uppermost, then leftmost corner on, in the order of these.

    The corners in a row of the grid are, in order, the ends of its horizontal edges, and those in a column the ends of
    its vertical ones. A corner where two pixels touch diagonally is two corners.
    """
    around = np.pad(mask, 1)
    upper_left, upper_right, lower_left, lower_right = (
        around[:-1, :-1],
        around[:-1, 1:],
        around[1:, :-1],
        around[1:, 1:],
    )
    touching = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
    corner = touching | (upper_left ^ upper_right ^ lower_left ^ lower_right)
    y, x = np.nonzero(corner)
    twice = touching[y, x]
    falling = upper_left[y, x]  # of touching pixels: whether it is the upper left and the lower right one
    source = np.repeat(np.arange(len(y)), 1 + twice)
    second = np.zeros(len(source), dtype=bool)
    second[1:] = source[1:] == source[:-1]
    y, x = y[source], x[source]
    # The first of two corners in one place ends the edge on its left, which goes on up where the pixels fall.
    columns = np.lexsort((second == falling[source], y, x))
    beside = np.arange(len(y)) ^ 1
    above = np.empty(len(y), dtype=np.int64)
    above[columns[0::2]], above[columns[1::2]] = columns[1::2], columns[0::2]
    yield from _follow(np.stack([x, y], axis=1), beside.tolist(), above.tolist())


def _follow(corners: Int64[np.ndarray, "corners 2"], beside: Sequence[int], above: Sequence[int]) -> Iterator[Ring]:
    """The rings that horizontal and vertical edges make in turn."""
    seen = bytearray(len(corners))
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            other = beside[at]
            seen[at] = seen[other] = True
            ring += [at, other]
            at = above[other]
        yield corners[ring]
