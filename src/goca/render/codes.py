"""Labels as indexed pictures and COCO run lengths, and pictures as ``data:`` addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image
from pycocotools import mask as coco_mask

from goca.classes import VOID
from goca.render.colours import VOID_COLOUR, Colour, check_count


def indexed_image(labels: Integer[np.ndarray, "height width"], colours: Sequence[Colour]) -> Image.Image:
    """A palette picture whose pixel values are the labels; :data:`goca.classes.VOID` has a colour of its own.

    Raises:
        ValueError: more than 256 colours.
    """
    check_count(len(colours))
    picture = Image.fromarray(labels.astype(np.uint8))
    if len(colours) <= VOID and (labels == VOID).any():
        colours = [*colours, *[(0, 0, 0)] * (VOID - len(colours)), VOID_COLOUR]
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def area_shares(labels: Integer[np.ndarray, "height width"], count: int) -> Float[np.ndarray, " classes"]:
    """Share of the pixels that each of ``count`` classes has; they sum to 1, less what is ignored."""
    return np.bincount(labels.ravel(), minlength=count)[:count] / labels.size


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
