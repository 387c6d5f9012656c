"""An image under its classes' colours, with outlines, names and a colour key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer
from PIL import Image

from goca.render.codes import area_shares, indexed_image
from goca.render.colours import Colour, check_count, class_colours
from goca.render.key import legend
from goca.render.names import draw_names, place_names
from goca.render.outlines import outlines

OVERLAY_SIDE = 512  # pixels that a small image is enlarged to, about
WHITE: Colour = (255, 255, 255)
OUTLINE = 0.9  # opacity of outlines
LINE = 480  # pixels of a picture for each pixel of their width on either side
LEAST, MOST = 0.35, 0.6  # default opacity
STRENGTH = 64.0  # grey levels: contrast of a picture that gets half the weight
SAMPLE = 256


def overlay(
    image: Image.Image,
    labels: Integer[np.ndarray, "height width"],
    names: Sequence[str],
    opacity: float | None = None,
    colours: Sequence[Colour] = (),
) -> Image.Image:
    """The image under its classes' colours, above a key with each class's share of the area.

    Regions have outlines, and names where they are large enough. Where pixels are ignored the image is bare. A small
    image is enlarged by a whole number, and lines, names and key grow with the picture, so that they can be read.

    Args:
        opacity: of the colours, from 0 to 1; by default :func:`default_opacity`.
        colours: of the classes; by default :func:`class_colours`.

    Raises:
        ValueError: ``opacity`` outside [0, 1].
    """
    colours = colours or class_colours(names)
    picture = paint(image, labels, colours, opacity, names)
    shares = area_shares(labels, len(names))
    values, ignored = [_percent(share) for share in shares], float(1 - shares.sum())
    if ignored > 1e-9:  # more than rounding, and less than a pixel
        names, colours, values = [*names, "(ignored)"], [*colours, WHITE], [*values, _percent(ignored)]
    font_size = max(14, max(picture.size) // 40)
    key = legend(names, colours, max(picture.width, font_size * 12), font_size, values)
    canvas = Image.new("RGB", (max(picture.width, key.width), picture.height + key.height), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(key, (0, picture.height))
    return canvas


def paint(
    image: Image.Image,
    labels: Integer[np.ndarray, "height width"],
    colours: Sequence[Colour],
    opacity: float | None = None,
    names: Sequence[str] = (),
) -> Image.Image:
    """The picture of :func:`overlay` without its key, and without names where none are given."""
    check_count(len(colours))
    if opacity is None:
        opacity = default_opacity(image)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is a number from 0 to 1, not {opacity}")
    small = labels.astype(np.uint8)
    factor = enlargement(image)
    if factor > 1:
        image, small = enlarged(image), small.repeat(factor, axis=0).repeat(factor, axis=1)
    line = -(-max(image.size) // LINE)
    bare = np.where(outlines(small, line), np.uint8(255 * (1 - max(OUTLINE, opacity))), np.uint8(255 * (1 - opacity)))
    bare[small >= len(colours)] = 255
    picture = indexed_image(small, colours).convert("RGB")
    picture.paste(image, mask=Image.fromarray(bare))
    if names:
        draw_names(picture, place_names(small, names), colours)
    return picture


def enlargement(image: Image.Image) -> int:
    """How many times the size of the image its overlay has: a whole number."""
    return max(1, round(OVERLAY_SIDE / max(image.size)))


def enlarged(image: Image.Image) -> Image.Image:
    """The image at its overlay's size."""
    factor = enlargement(image)
    return (
        image if factor == 1 else image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    )


def default_opacity(image: Image.Image) -> float:
    """The opacity c / (c + 64), from 0.35 to 0.6, for an image of contrast c.

    Contrast is the standard deviation of the grey levels. Over a busy image colours have to be strong to be told apart;
    over a flat one they may be weak, and what little it shows remains visible: what is left of the image's contrast is
    always the same share of the colours' strength.
    """
    grey = image.convert("L") if max(image.size) <= SAMPLE else image.reduce(-(-max(image.size) // SAMPLE)).convert("L")
    contrast = float(np.asarray(grey, dtype=float).std())
    return min(MOST, max(LEAST, contrast / (contrast + STRENGTH)))


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")
