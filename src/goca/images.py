"""From whatever the caller calls an image to RGB pixels, and from there to the tensor that a model takes."""

from __future__ import annotations

import io
import math
import os
import re
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ImageSource = str | Path | Image.Image | np.ndarray
MAX_ASPECT = 4.0
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000")
LOSSLESS_FORMATS = ("PNG", "TIFF", "BMP", "GIF")

_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BYTES_PER_PIXEL = 32  # the decoded image, its upright copy, RGB, and labels of 64 bits, with a reserve
_quiet = threading.Lock()  # warnings.catch_warnings changes the whole process

_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """An image that cannot be used; the message names it and says what to do."""


class TooLargeError(ImageError):
    """An image of more pixels than are read."""


def check_there(paths: Sequence[str]) -> None:
    """Refuse paths that are no files, in the words of :func:`read_image`.

    Raises:
        ImageError: a sentence about the first of them.
    """
    for path in paths:
        if not os.path.isfile(path):
            read_image(path)


def read_image(source: ImageSource) -> Image.Image:
    """Return the RGB picture behind a path, a PIL image or an array.

    The EXIF rotation is applied; 16-bit grey is scaled to 8 bits; grey, palette and CMYK are converted; transparency is
    composited on white. Of an animation the first frame is taken.

    Args:
        source: path of an image file, PIL image of any mode, or uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4);
            a grey array may be uint16.

    Raises:
        ImageError: the source is missing, empty, no image, damaged, or of an unusable shape or type.
    """
    if isinstance(source, np.ndarray):
        return upright_rgb(_from_array(source), "the array")
    if isinstance(source, Image.Image):
        _load(source, "the image")
        return upright_rgb(source, "the image")
    if isinstance(source, (str, Path)):
        return upright_rgb(load_file(source), str(source))
    raise ImageError(
        f"cannot read an image from a {type(source).__name__}; "
        "pass a path, a PIL image or a uint8 array (height, width, 3)"
    )


def fit_to_model(
    image: Image.Image, side: int, multiple: int, keep_aspect: bool = False
) -> Float[Tensor, "channels=3 height width"]:
    """Resize an RGB image to a model's size and scale it to [-1, 1].

    The whole image becomes a square of ``side`` pixels, as published. With ``keep_aspect`` it keeps its shape
    instead, at about the same area: height and width are rounded to ``multiple`` and the aspect is limited to 4 : 1.

    Raises:
        ValueError: ``side`` is no multiple of ``multiple``.
    """
    if side <= 0 or side % multiple:
        raise ValueError(f"the model takes sizes that are multiples of {multiple}, not {side}")
    width, height = fitted_size(image.size, side, multiple) if keep_aspect else (side, side)
    resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
    return _to_tensor(resized)


def fit_as_published(image: Image.Image, side: int) -> Float[Tensor, "channels=3 height width"]:
    """The square of ``side`` pixels in [-1, 1] as the published experiments make it: resized by Pillow's own filter for
    the image's colour mode, which is bicubic (nearest for palettes), and only then converted to RGB."""
    return _to_tensor(image.resize((side, side)).convert("RGB"))


def fitted_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """(width, height) of about ``side`` squared pixels in the shape of ``size``, both multiples of ``multiple``."""
    aspect = min(max(size[0] / size[1], 1 / MAX_ASPECT), MAX_ASPECT)
    width, height = side * math.sqrt(aspect), side / math.sqrt(aspect)
    return max(1, round(width / multiple)) * multiple, max(1, round(height / multiple)) * multiple


def _to_tensor(image: Image.Image) -> Float[Tensor, "channels=3 height width"]:
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1).contiguous()


def load_file(source: str | Path) -> Image.Image:
    """Read an image file as it is: the first frame, in its own colour mode and orientation.

    Raises:
        ImageError: the file is missing, empty, too large for the memory, damaged, or an image of another format.
    """
    name = str(source)
    if isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source):
        raise ImageError(f"{name} is a web address; download the image first and pass the path of the file")
    if not name:
        raise ImageError("the image's path is empty; pass the path of an image file")
    if not os.path.exists(name):
        raise ImageError(f"no such image file: {name}; check the path")
    if os.path.isdir(name):
        raise ImageError(f"{name} is a folder; name the image files in it")
    if not os.path.isfile(name):
        raise ImageError(f"{name} is no regular file; pass the path of an image file")
    if os.path.getsize(name) == 0:
        raise ImageError(f"{name} is empty (0 bytes); copy or download the image again")
    try:
        with open(name, "rb") as file:
            return _decode(file, name)
    except PermissionError:
        raise ImageError(f"{name} may not be read; change its permissions") from None


def load_bytes(content: bytes, name: str) -> Image.Image:
    """Read the image in the bytes of a file called ``name``, as :func:`load_file` does.

    Raises:
        ImageError: the bytes are empty, no image, damaged, or too large for the memory.
    """
    return _decode_bytes(content, name)


def size_of_bytes(content: bytes, name: str) -> tuple[int, int]:
    """Width and height as the header of an image says, before anything is decoded.

    Raises:
        ImageError: see :func:`load_bytes`; :class:`TooLargeError` where the memory does not hold the image.
    """
    return _decode_bytes(content, name, header_only=True).size


def orientation(image: Image.Image) -> int | None:
    """The EXIF orientation of an image, 1 (upright) to 8; ``None`` where it has none, or a value that means nothing."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF of wrong types raises almost anything
        return None
    return value if isinstance(value, int) and (value == 1 or value in _TURNS) else None


def turn(image: Image.Image, orientation: int | None) -> Image.Image:
    """An image as stored with that EXIF orientation, turned upright."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def max_pixels() -> int:
    """The area of the largest image that is read: what half the free memory holds."""
    import psutil

    return int(psutil.virtual_memory().available) // 2 // _BYTES_PER_PIXEL


def _decode_bytes(content: bytes, name: str, header_only: bool = False) -> Image.Image:
    if not content:
        raise ImageError(f"{name} is empty (0 bytes); copy or download the image again")
    return _decode(io.BytesIO(content), name, header_only)


def _decode(file: Any, name: str, header_only: bool = False) -> Image.Image:
    Image.init()
    known = [each for each in FORMATS if each in Image.OPEN]  # a Pillow may lack AVIF
    too_large = f"{name} has too many pixels to be read safely; make it smaller first"
    try:
        with _quiet, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\b")  # other threads' warnings stay
            image = Image.open(file, formats=known)
            if image.width * image.height > max_pixels():
                raise TooLargeError(too_large)
            if not header_only:
                _load(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image that can be read; convert it to PNG or JPEG") from None
    except (Image.DecompressionBombError, MemoryError):
        raise TooLargeError(too_large) from None
    except Exception as error:  # a header can raise almost anything
        raise _damaged(name) from error
    return image


def _load(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost anything on damaged files
        raise _damaged(name) from error


def _damaged(name: str) -> ImageError:
    return ImageError(f"{name} is damaged or cut short; copy or download the image again")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.size == 0:
        raise ImageError(f"the array has no pixels (shape {array.shape}); pass at least one pixel")
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not grey and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        hint = "; use array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ImageError(
            f"the array has shape {array.shape}, "
            f"but an image is (height, width), (height, width, 3) or (height, width, 4){hint}"
        )
    if array.dtype != np.uint8 and not (grey and array.dtype == np.uint16):
        raise ImageError(
            f"the array holds {array.dtype}, but an image holds uint8 values from 0 to 255; "
            "convert it, for example with (255 * array).round().astype('uint8') where it lies in [0, 1]"
        )
    if grey:
        array = array.reshape(array.shape[:2])
    return Image.fromarray(_eight_bits(array) if array.dtype == np.uint16 else np.ascontiguousarray(array))


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """RGB pixels of an image of any mode, turned upright, on white."""
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels ({image.width} x {image.height}); pass at least one pixel")
    image = turn(image, orientation(image))
    if image.mode in _SIXTEEN_BIT_MODES:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name} holds values beyond 16 bits; convert it to 8 bits per channel")
        return Image.fromarray(_eight_bits(values)).convert("RGB")
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point values; convert it to 8 bits per channel")
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    except (ValueError, TypeError, KeyError, OSError):
        raise ImageError(f"{name} has the colour mode {image.mode}, which cannot be read; convert it to RGB") from None


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """16-bit values as 8-bit ones: 0 stays 0 and 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
