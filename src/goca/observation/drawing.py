"""What the pictures of an explanation are put together from: tiles with captions, bars, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from goca.maps.resize import resize_maps
from goca.render import Colour, heat_map

SIDE, GAP, LINE, FONT = 128, 8, 16, 12
INK: Colour = (30, 30, 30)
PALE: Colour = (225, 225, 225)
BAR: Colour = (0, 114, 178)
POSITIVE, NEGATIVE = np.array([178, 24, 43], float), np.array([33, 102, 172], float)
WHITE: Colour = (255, 255, 255)
TINY = 1e-12


def caption(picture: Image.Image, *lines: str, width: int | None = None) -> Image.Image:
    """A picture above lines of text, which are shortened to its width."""
    width = max(picture.width, width or 0)
    canvas = Image.new("RGB", (width, picture.height + LINE * len(lines)), WHITE)
    canvas.paste(picture.convert("RGB"), (0, 0))
    for number, line in enumerate(lines):
        write(canvas, (0, picture.height + number * LINE + LINE // 2), shorten(line, width))
    return canvas


def label(text: str, width: int, height: int, heading: str = "") -> Image.Image:
    """Text on a white rectangle, in the middle of its height; ``heading`` is its first line."""
    canvas = Image.new("RGB", (width, height), WHITE)
    lines = [line for line in (heading, *text.split("\n")) if line]
    top = height // 2 - (len(lines) - 1) * LINE // 2
    for number, line in enumerate(lines):
        write(canvas, (0, top + number * LINE), shorten(line, width))
    return canvas


def table(title: str, rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Rows of pictures in columns of equal width, under a title."""
    columns = max(map(len, rows))
    widths = [max(row[column].width for row in rows if column < len(row)) for column in range(columns)]
    heights = [max(each.height for each in row) for row in rows]
    lines = wrap(title, max(sum(widths) + GAP * (columns - 1), 3 * SIDE))
    top = GAP + len(lines) * (LINE + 2) + GAP
    width = max(sum(widths) + GAP * (columns + 1), *(text_width(line, FONT + 1) + 2 * GAP for line in lines))
    canvas = Image.new("RGB", (width, top + sum(heights) + GAP * len(rows)), WHITE)
    for number, line in enumerate(lines):
        write(canvas, (GAP, GAP + number * (LINE + 2) + LINE // 2), line, size=FONT + 1)
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for each, own in zip(row, widths, strict=False):
            canvas.paste(each, (left, top))
            left += own + GAP
        top += height + GAP
    return canvas


def in_rows(pictures: Sequence[Image.Image], columns: int) -> list[list[Image.Image]]:
    """Pictures cut into rows."""
    return [list(pictures[first : first + columns]) for first in range(0, len(pictures), columns)]


def photo(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The image at its own shape in a square of ``side`` pixels."""
    factor = side / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def heat(
    image: Image.Image, values: Float[np.ndarray, "rows columns"], low: float, high: float, side: int | None = SIDE
) -> Image.Image:
    """Values from ``low`` (dark blue) to ``high`` (light yellow) over the grey image, reduced to ``side`` pixels."""
    picture = image if side is None else photo(image, side)
    stretched = (values - low) / max(high - low, TINY)
    grid = torch.from_numpy(np.clip(stretched, 0, 1).astype(np.float32))[None]
    return heat_map(picture, resize_maps(grid, (picture.height, picture.width))[0].numpy())


def signed(values: Float[np.ndarray, "rows columns"], top: float, size: tuple[int, int]) -> Image.Image:
    """Values from ``-top`` (blue) over 0 (white) to ``top`` (red), enlarged without smoothing to (width, height)."""
    strength = np.clip(values / max(top, TINY), -1, 1)[..., None]
    end = np.where(strength < 0, NEGATIVE, POSITIVE)
    colours = 255 + np.abs(strength) * (end - 255)
    return Image.fromarray(colours.round().astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def stacked_bar(parts: Sequence[float], colours: Sequence[Colour], width: int, height: int = LINE) -> Image.Image:
    """Parts of 1 side by side."""
    canvas = Image.new("RGB", (width, height), WHITE)
    draw, left = ImageDraw.Draw(canvas), 0.0
    for part, colour in zip(parts, colours, strict=True):
        right = left + part * width
        if round(right) > round(left):
            draw.rectangle((round(left), 1, round(right) - 1, height - 2), fill=colour)
        left = right
    return canvas


def bar(value: float, top: float, width: int, text: str, colour: Colour = BAR, height: int = LINE) -> Image.Image:
    """A bar as long as ``value`` is of ``top``, and a text behind it."""
    canvas = Image.new("RGB", (width + 7 * FONT, height), WHITE)
    length = round(width * max(0.0, value) / top) if top > 0 else 0
    middle = height // 2
    if length:
        ImageDraw.Draw(canvas).rectangle((0, middle - 6, length - 1, middle + 5), fill=colour)
    write(canvas, (length + 4, middle), text)
    return canvas


def write(
    canvas: Image.Image, at: tuple[int, int], text: str, size: int = FONT, anchor: str = "lm", colour: Colour = INK
) -> None:
    """One line of text."""
    ImageDraw.Draw(canvas).text(at, text, fill=colour, font=_font(size), anchor=anchor)


def text_width(text: str, size: int = FONT) -> int:
    """Pixels that a line of text needs."""
    return ceil(_font(size).getlength(text))


def shorten(text: str, width: int, size: int = FONT) -> str:
    """The text, its middle left out where it is wider than ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    shorter = (f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}" for keep in range(len(text) - 1, 0, -1))
    return next((each for each in shorter if text_width(each, size) <= width), "")


def wrap(text: str, width: int, size: int = FONT + 1) -> list[str]:
    """The text in lines of at most ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
