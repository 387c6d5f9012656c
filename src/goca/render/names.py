"""Where the names of regions stand: inside, in the middle of the largest place for a text of their shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from goca.render.colours import Colour
from goca.render.text import font, readable

GRID = 160  # places are searched on a grid of at most so many cells a side
SMALLEST, LARGEST, ROOM = (
    12.0,
    18.0,
    60.0,
)  # pixels of a text, and of the place looked for, in REFERENCE pixels of a picture
REFERENCE = 640
MARGIN = 0.45  # of the text's size, on every side
STEPS = 8  # halvings of the range of sizes
INK = (20, 20, 20)
PALE = 0.25  # share of the colour in a name's halo, the rest is white


@dataclass(frozen=True)
class PlacedName:
    """The text for a class, its font, its size and the middle of it, in pixels."""

    index: int
    text: str
    file: str | None
    size: int
    x: int
    y: int


def place_names(labels: UInt8[np.ndarray, "height width"], names: Sequence[str]) -> list[PlacedName]:
    """A place for the name of every class that has a region large enough for it, at most one a class.

    A name lies with its margin in its own region, whose specks are ignored; so names cannot overlap.
    """
    step = -(-max(labels.shape) // GRID)
    scale = max(1.0, max(labels.shape) / REFERENCE)
    cells = labels[step // 2 :: step, step // 2 :: step]
    placed = []
    for index in np.unique(cells[cells < len(names)]).tolist():
        text, file = readable(names[index])
        width = font(file, REFERENCE).getlength(text) / REFERENCE  # of a text whose size is 1
        shape = ((1 + 2 * MARGIN) / step, (width + 2 * MARGIN) / step)
        found = largest_place(without_specks(cells == index), shape, SMALLEST * scale, ROOM * scale)
        if found is not None:
            row, column, size = found
            size = min(size, LARGEST * scale)
            placed.append(PlacedName(index, text, file, int(size), round(column * step), round(row * step)))
    return placed


def without_specks(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The cells around which most of 3 x 3 belong to the mask; those of several classes remain disjoint."""
    wide = np.pad(mask.astype(np.uint8), 1, mode="edge")
    across = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    return across[:-2] + across[1:-1] + across[2:] >= 5


def largest_place(
    mask: Bool[np.ndarray, "rows columns"], shape: tuple[float, float], smallest: float, largest: float
) -> tuple[float, float, float] | None:
    """The middle of the largest rectangle of a shape inside a mask, up to a size, and its size; ``None`` where the
    smallest does not fit.

    Args:
        shape: height and width of the rectangle of size 1.
        smallest, largest: range of sizes.

    Returns:
        row and column, counted in cells from the upper left corner of the mask, and the size.
    """
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    low, high = smallest, min(largest, mask.shape[0] / shape[0], mask.shape[1] / shape[1])
    best = fitting(sums, shape, low) if low <= high else None
    if best is None:
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = fitting(sums, shape, middle)
        low, high, best = (middle, high, found) if found is not None else (low, middle, best)
    return (*best, low)


def fitting(sums: np.ndarray, shape: tuple[float, float], size: float) -> tuple[float, float] | None:
    """The middle of one rectangle inside a mask, given by its summed areas: the most central one of those that fit."""
    rows, columns = (max(1, int(np.ceil(side * size))) for side in shape)
    if rows >= len(sums) or columns >= sums.shape[1]:
        return None
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    places = np.argwhere(inside == rows * columns)
    if not len(places):
        return None
    centre = places.mean(axis=0)
    row, column = places[np.abs(places - centre).sum(axis=1).argmin()]
    return row + rows / 2, column + columns / 2


def draw_names(picture: Image.Image, placed: Sequence[PlacedName], colours: Sequence[Colour]) -> None:
    """Write names into a picture: dark, with a halo of the class's colour, made pale."""
    draw = ImageDraw.Draw(picture)
    for each in placed:
        halo = tuple(round(255 - PALE * (255 - channel)) for channel in colours[each.index])
        draw.text(
            (each.x, each.y),
            each.text,
            fill=INK,
            font=font(each.file, each.size),
            anchor="mm",
            stroke_width=max(1, round(each.size / 7)),
            stroke_fill=halo,
        )
