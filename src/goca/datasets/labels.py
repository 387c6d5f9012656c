"""Class ids in files: read them, and map them exactly to a data set's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Integer, UInt8
from PIL import Image

_UNKNOWN = -1


def make_table(classes: Mapping[int, int]) -> Int16[np.ndarray, " ids"]:
    """A look-up table for :func:`map_ids` from official ids to classes, void too; other ids are unknown."""
    table = np.full(max(classes) + 2, _UNKNOWN, np.int16)  # the last entry stands for all higher ids
    table[list(classes)] = list(classes.values())
    return table


def map_ids(
    ids: Integer[np.ndarray, "height width"], table: Int16[np.ndarray, " ids"], path: Path
) -> UInt8[np.ndarray, "height width"]:
    """Official ids of the file ``path`` as classes.

    Raises:
        ValueError: an id that the official scheme does not have.
    """
    labels = np.where(ids < 0, _UNKNOWN, table[np.clip(ids, 0, len(table) - 1)])
    unknown = ids[labels == _UNKNOWN]
    if len(unknown):
        raise ValueError(
            f"{path} holds the class id {unknown.min()} ({len(unknown)} unknown pixels in all), "
            "which the data set does not have; get the file again or correct its ids"
        )
    return labels.astype(np.uint8)


def read_ids(path: Path) -> Integer[np.ndarray, "height width"]:
    """The numbers that an image file of 1 to 16 bits per pixel holds, whatever colours they are shown in.

    Raises:
        ValueError: a missing or damaged file, or one that holds colours instead of numbers.
    """
    image = _open_image(path)
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path} has the colour mode {image.mode}, but class ids are stored in a grey or palette PNG; "
            "get the original file or convert its colours to ids"
        )
    ids = np.asarray(image).astype(np.int32)
    return ids // _grey_step(path) if image.mode == "L" else ids


def read_colour_ids(path: Path) -> Integer[np.ndarray, "height width"]:
    """The ids of an image file that holds red + 256 green + 65536 blue.

    Raises:
        ValueError: a missing or damaged file, or one without colours.
    """
    image = _open_image(path)
    if image.mode != "RGB":
        raise ValueError(f"{path} has the colour mode {image.mode}, but segment ids are stored as RGB; get it again")
    return np.asarray(image).astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def read_matlab_ids(path: Path, variable: str) -> Integer[np.ndarray, "height width"]:
    """The whole numbers of a two-dimensional variable of a MATLAB file.

    Raises:
        ValueError: a missing or damaged file, or one without such a variable; or scipy is missing.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise ValueError(f"no such label file: {path}; get it again")
    try:
        values = loadmat(path, variable_names=[variable]).get(variable)
    except Exception:  # a damaged file raises almost anything, from KeyError to zlib.error
        raise ValueError(f"{path} is damaged or no MATLAB file; get it again") from None
    if values is None or values.ndim != 2 or values.dtype.kind not in "uif":
        raise ValueError(f"{path} has no two-dimensional {variable} of numbers; get it again")
    if values.size and not (values.min() >= 0 and values.max() < 2**53 and (values == np.floor(values)).all()):
        raise ValueError(f"{path} holds numbers in {variable} that are no class ids; get it again")
    return values.astype(np.int64)


def check_scipy() -> None:
    """Raise ``ValueError`` where scipy is not installed."""
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise ValueError("Pascal Context's labels are MATLAB files, which scipy reads: run pip install scipy") from None


def _open_image(path: Path) -> Image.Image:
    """A label file as it is shown; formats that change values are refused."""
    from goca.images import LOSSLESS_FORMATS, ImageError, load_file, orientation, turn  # torch comes with it

    image = load_file(path)
    if image.format not in LOSSLESS_FORMATS:
        raise ImageError(f"{path} is a {image.format}, which changes class ids; store them as PNG")
    return turn(image, orientation(image))


def _grey_step(path: Path) -> int:
    """Pillow spreads the values of grey PNGs of 2 and 4 bits over 0 to 255: the distance between two of them."""
    with path.open("rb") as file:
        header = file.read(26)
    bits = header[24] if header.startswith(b"\x89PNG") else 8
    return 255 // (2**bits - 1) if bits < 8 else 1


def turn_labels(
    labels: UInt8[np.ndarray, "height width"],
    labels_path: Path,
    stored: Image.Image,
    image_path: Path,
    *,
    drawn_as_stored: bool,
) -> UInt8[np.ndarray, "height2 width2"]:
    """The labels of an image whose EXIF orientation may turn it.

    Labels belong to the image as it is shown or as it is stored. A label file with an EXIF orientation of its own is
    shown turned already. Otherwise the sizes tell, unless both are the same: by ``drawn_as_stored`` the labels are then
    turned alike, or refused.

    Args:
        labels: as they are shown.
        stored: the image, not turned.
        drawn_as_stored: the labels' source is known to ignore EXIF.

    Raises:
        ValueError: what the labels belong to cannot be known.
    """
    from goca.images import load_file, orientation, turn

    kind = orientation(stored)
    if kind in (None, 1):
        return labels
    size, shown = labels.shape[::-1], turn(stored, kind).size
    if labels_path.suffix != ".mat" and orientation(load_file(labels_path)) is not None:
        return labels
    if size == shown != stored.size or size not in (shown, stored.size):
        return labels
    if size == shown and not drawn_as_stored:
        raise ValueError(
            f"{image_path} is shown turned by its EXIF orientation {kind}, and the size of {labels_path} does not say "
            "whether its labels are of the image as stored or as shown; save the image turned, without EXIF, and check "
            "that the labels fit it"
        )
    return np.asarray(turn(Image.fromarray(labels), kind))
