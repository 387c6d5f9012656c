"""Pictures and codes of a segmentation: colours, overlay with legend, heat map, indexed PNG and COCO run lengths."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from goca.classes import BACKGROUND, VOID
from goca.messages import visible

Colour = tuple[int, int, int]

BACKGROUND_COLOUR: Colour = (48, 48, 48)
VOID_COLOUR: Colour = (224, 224, 192)  # of Pascal VOC
MAX_CLASSES = 256
MIN_OVERLAY_SIDE = 480

# Okabe and Ito's palette for every kind of colour vision, then as far from each other as the remaining colours get.
_FIRST_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB: usual vision, protanopia, deuteranopia.
_VISIONS = np.array(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])
# From no evidence to full evidence: dark blue, purple, orange, light yellow; lightness grows all the way.
_HEAT_STOPS = np.array([[8, 8, 40], [86, 15, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)


def class_colours(names: Sequence[str]) -> tuple[Colour, ...]:
    """One colour per class, always the same for the same position; a last class ``background`` is dark grey.

    Raises:
        ValueError: more than 256 classes.
    """
    if len(names) > MAX_CLASSES:
        raise ValueError(f"{len(names)} classes are too many for an indexed picture; pass at most {MAX_CLASSES}")
    colours = palette()[: len(names)]
    return (*colours[:-1], BACKGROUND_COLOUR) if names and names[-1] == BACKGROUND else colours


@lru_cache(maxsize=1)
def palette() -> tuple[Colour, ...]:
    """256 colours, each the farthest from its predecessors for the colour vision that tells them apart least."""
    steps = np.arange(16, 256, 26)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = colour_coordinates(candidates)
    chosen = [*_FIRST_COLOURS]
    nearest = np.full(len(candidates), np.inf)
    for colour in (BACKGROUND_COLOUR, (255, 255, 255), *chosen):
        nearest = np.minimum(nearest, _distances(points, colour))
    while len(chosen) < MAX_CLASSES:
        red, green, blue = (int(c) for c in candidates[int(nearest.argmax())])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distances(points, chosen[-1]))
    return tuple(chosen)


def colour_coordinates(colours: Integer[np.ndarray, "colours 3"]) -> Float[np.ndarray, "visions colours 3"]:
    """CIELAB coordinates of sRGB colours as seen with usual vision, protanopia and deuteranopia."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,cj->vci", _VISIONS, linear), 0, 1)
    ratio = seen @ _XYZ.T / _WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _distances(points: np.ndarray, colour: Colour) -> np.ndarray:
    """Distance of each candidate from ``colour``, for the vision that sees the smallest."""
    return np.linalg.norm(points - colour_coordinates(np.array([colour])), axis=-1).min(axis=0)


def indexed_image(labels: Integer[np.ndarray, "height width"], colours: Sequence[Colour]) -> Image.Image:
    """A palette picture whose pixel values are the labels; :data:`goca.classes.VOID` has a colour of its own."""
    picture = Image.fromarray(labels.astype(np.uint8))
    if len(colours) <= VOID and (labels == VOID).any():
        colours = [*colours, *[(0, 0, 0)] * (VOID - len(colours)), VOID_COLOUR]
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def area_shares(labels: Integer[np.ndarray, "height width"], count: int) -> Float[np.ndarray, " classes"]:
    """Share of the pixels that each of ``count`` classes has; they sum to 1, less what is ignored."""
    return np.bincount(labels.ravel(), minlength=count)[:count] / labels.size


def overlay(
    image: Image.Image, labels: Integer[np.ndarray, "height width"], names: Sequence[str], opacity: float
) -> Image.Image:
    """The image under its classes' colours, above a legend with each class's share of the area. Where pixels are
    ignored the image is bare.

    A small image is enlarged by a whole number, and the legend grows with the picture, so that both can be read.

    Raises:
        ValueError: ``opacity`` outside [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is a number from 0 to 1, not {opacity}")
    colours = class_colours(names)
    picture = Image.blend(image, indexed_image(labels, colours).convert("RGB"), opacity)
    ignored = labels >= len(names)
    picture.paste(image, mask=Image.fromarray(ignored))
    factor = max(1, MIN_OVERLAY_SIDE // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)

    font_size = max(14, max(picture.size) // 36)
    entries = [
        f"{_shorten(visible(name))}  {_percent(share)}"
        for name, share in zip(names, area_shares(labels, len(names)), strict=True)
    ]
    if ignored.any():
        entries, colours = [*entries, f"(ignored)  {_percent(float(ignored.mean()))}"], (*colours, (255, 255, 255))
    key = legend(entries, colours, max(picture.width, font_size * 12), font_size)
    canvas = Image.new("RGB", (max(picture.width, key.width), picture.height + key.height), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(key, (0, picture.height))
    return canvas


def legend(entries: Sequence[str], colours: Sequence[Colour], width: int, font_size: int) -> Image.Image:
    """Coloured squares with texts in as many columns as ``width`` holds, on white; wider where an entry needs it."""
    font = ImageFont.load_default(font_size)
    pad, row = font_size // 2, font_size * 3 // 2
    column = max(int(font.getlength(text)) for text in entries) + font_size + 3 * pad
    columns = min(len(entries), max(1, (width - pad) // column))
    rows = -(-len(entries) // columns)
    picture = Image.new("RGB", (max(width, column + pad), rows * row + pad), "white")
    draw = ImageDraw.Draw(picture)
    for i, (text, colour) in enumerate(zip(entries, colours, strict=True)):
        left, top = pad + i % columns * column, pad + i // columns * row
        draw.rectangle((left, top, left + font_size - 1, top + font_size - 1), fill=colour, outline=(90, 90, 90))
        draw.text((left + font_size + pad, top + font_size / 2), text, fill="black", font=font, anchor="lm")
    return picture


def heat_map(image: Image.Image, scores: Float[np.ndarray, "height width"], opacity: float = 0.75) -> Image.Image:
    """Scores in [0, 1] as colours from dark blue to light yellow over the grey image."""
    position = np.clip(scores, 0, 1) * (len(_HEAT_STOPS) - 1)
    stops = np.arange(len(_HEAT_STOPS))
    colours = np.stack([np.interp(position, stops, _HEAT_STOPS[:, c]) for c in range(3)], axis=-1)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours.round().astype(np.uint8)), opacity)


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> dict[str, object]:
    """COCO's compressed run-length code of a mask: ``{"size": [height, width], "counts": "..."}``."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode("ascii")}


def data_uri(image: Image.Image, side: int, quality: int) -> str:
    """The picture, reduced to at most ``side`` pixels a side, as a JPEG of that quality in a ``data:`` address."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _shorten(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")
