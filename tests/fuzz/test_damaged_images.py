"""Two thousand damaged images, the same every time: each is read, or refused in one sentence that names it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goca.datasets.labels import read_colour_ids, read_ids
from goca.distributed.cluster import ImageSegmenter
from goca.images import FORMATS, ImageError, load_bytes, read_image
from goca.render import data_uri
from goca.result import Segmentation

DAMAGED = ("bomb.gif", "damaged.blp", "damaged.dds")
EXTRAS = ("EPS", "ICO", "TGA", "PCX", "PPM", "SGI", "DDS", "PSD")
COUNT = 2000


def whole_files() -> list[bytes]:
    """Small images of every format that is read, and of some that are not."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found = [Path(__file__).with_name("exif_wrong_type.jpg").read_bytes()]
    for kind in FORMATS + EXTRAS:
        for picture in (pixels, pixels.convert("L"), pixels.convert("P")):
            file = io.BytesIO()
            try:
                picture.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
            except (OSError, KeyError, ValueError):
                continue  # the format lacks the mode, or this Pillow the format
            found.append(file.getvalue())
    return found


def mutations(count: int) -> Iterator[tuple[int, bytes]]:
    rng = np.random.default_rng(5)
    files = whole_files()
    for index in range(count):
        content = bytearray(files[index % len(files)])
        for _ in range(rng.integers(1, 9)):
            place = int(rng.integers(0, min(len(content), 200 if rng.random() < 0.7 else len(content))))
            content[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(0, 256)]))
        if rng.random() < 0.2:
            del content[int(rng.integers(1, len(content))) :]
        elif rng.random() < 0.2:
            place = int(rng.integers(0, len(content)))
            content[place:place] = rng.bytes(4)
        yield index, bytes(content)


def test_two_thousand_damaged_images_are_read_or_named_by_every_reader(tmp_path: Path) -> None:
    outcomes = {"read": 0, "refused": 0}
    path = tmp_path / "damaged.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index, content in mutations(COUNT):
            path.write_bytes(content)
            readers = [lambda: read_image(path), lambda: read_image(load_bytes(content, str(path)))]  # noqa: B023
            more = [lambda: read_ids(path), lambda: read_colour_ids(path), lambda: ask(path), lambda: read_row(content)]  # noqa: B023
            readers.append(more[index % 4])
            for reader in readers:
                try:
                    reader()
                    outcomes["read"] += 1
                except ValueError as error:
                    assert path.name in str(error) and "\n" not in str(error) and ";" in str(error), index
                    outcomes["refused"] += 1
    assert min(outcomes.values()) > COUNT / 10


def ask(path: Path) -> None:
    """As a caption's picture."""
    data_uri(read_image(path), 64, 90)


def read_row(content: bytes) -> None:
    """As a row of a Ray job, which is marked as failed."""
    worker = object.__new__(ImageSegmenter)
    worker.segmenter, worker.request = segment, {}  # type: ignore[assignment]
    row = worker({"path": "damaged.png", "bytes": content})
    assert (row["error"] == "") == bool(row["labels"])
    if row["error"]:
        raise ValueError(row["error"])


def segment(image: Image.Image) -> Segmentation:
    size = (image.height, image.width)
    return Segmentation(image, ("all",), np.zeros(size, np.uint8), np.ones((1, 2, 2), np.float32))


@pytest.mark.parametrize("name", DAMAGED)
def test_known_damaged_files_are_refused_from_a_path_and_from_bytes(name: str) -> None:
    path = Path(__file__).with_name(name)
    with pytest.raises(ImageError, match=name):
        read_image(path)
    with pytest.raises(ImageError, match=name):
        load_bytes(path.read_bytes(), name)
    with pytest.raises(ValueError, match=name):
        read_ids(path)
    with pytest.raises(ValueError, match=r"damaged\.png"):
        read_row(path.read_bytes())


def test_exif_of_wrong_types_is_left_out_but_its_orientation_counts() -> None:
    path = Path(__file__).with_name("exif_wrong_type.jpg")
    with Image.open(path) as image:
        stored = np.asarray(image)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.rot90(stored, -1))
