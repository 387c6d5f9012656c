"""Ignored pixels in every format: void where there is such a number, no mask and no polygon elsewhere."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from pycocotools import mask as coco_mask

from goca import Segmentation
from goca.datasets.folder import Folder
from goca.export import FORMATS
from goca.render import enlarged


def segmentation(classes: tuple[str, ...] = ("cat", "sky", "background")) -> Segmentation:
    """Blobs of 24 x 20 pixels, of which about a third is ignored."""
    rng = np.random.default_rng(3)
    maps = rng.uniform(0, 1, (len(classes), 5, 6)).astype(np.float32)
    image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    whole = Segmentation(image, classes, np.zeros((20, 24), dtype=np.int64), maps)
    best = Segmentation(image, classes, whole.scores.argmax(axis=0), maps)
    return best.ignore(float(np.quantile(best.margin, 0.33)))


RESULT = segmentation()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def rle_union(codes: list[dict]) -> np.ndarray:
    return np.any([coco_mask.decode(code) for code in codes], axis=0)


def png(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def cvat(folder: Path) -> np.ndarray:
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        return png(archive.read("SegmentationClass/a.png"))


READ: dict[str, Callable[[Path], np.ndarray]] = {
    "labels": lambda folder: pixels(folder / "a_labels.png") == 255,
    "json": lambda folder: ~rle_union([e["rle"] for e in json.loads((folder / "a.json").read_text())["classes"]]),
    "npz": lambda folder: np.load(folder / "a.npz")["labels"] == 255,
    "folder": lambda folder: Folder(folder)[0].labels == 255,
    "coco": lambda folder: (
        ~rle_union([e["segmentation"] for e in json.loads((folder / "annotations.json").read_text())["annotations"]])
    ),
    "parquet": lambda folder: png(parquet.read_table(folder).to_pylist()[0]["labels"]) == 255,
    "voc": lambda folder: pixels(folder / "voc/SegmentationClass/a.png") == 255,
    "fiftyone": lambda folder: pixels(folder / "fiftyone/labels/a.png") == 255,
    "huggingface": lambda folder: (
        png(parquet.read_table(folder / "huggingface/data").to_pylist()[0]["label"]["bytes"]) == 255
    ),
}
NO_CLASS: dict[str, Callable[[Path], np.ndarray]] = {
    "cvat": lambda folder: (cvat(folder) == 0).all(axis=-1),
    "coco-panoptic": lambda folder: (pixels(folder / "panoptic/a.png") == 0).all(axis=-1),
}
POLYGONS_AND_BRUSHES = {"geojson", "yolo", "label-studio"}  # read back in test_tools.py, with an ignored part


@pytest.mark.parametrize("name", READ)
def test_ignored_pixels_are_void(name: str, tmp_path: Path) -> None:
    RESULT.save(tmp_path, "a", [name])
    assert 0.2 < RESULT.ignored.mean() < 0.5
    assert np.array_equal(READ[name](tmp_path).astype(bool), RESULT.ignored)


@pytest.mark.parametrize("name", NO_CLASS)
def test_ignored_pixels_are_without_a_class_as_the_background_is(name: str, tmp_path: Path) -> None:
    RESULT.save(tmp_path, "a", [name])
    background = RESULT.labels == RESULT.classes.index("background")
    assert np.array_equal(NO_CLASS[name](tmp_path), RESULT.ignored | background)


def test_no_format_is_forgotten() -> None:
    assert set(FORMATS) == {*READ, *NO_CLASS, *POLYGONS_AND_BRUSHES, "overlay", "heat", "html"}


def test_the_overlay_leaves_the_image_bare_there() -> None:
    image = enlarged(RESULT.image)
    factor = image.width // RESULT.image.width
    overlay = np.asarray(RESULT.overlay(1.0))[: image.height, : image.width]
    wide = np.kron(RESULT.ignored, np.ones((factor, factor), dtype=bool))
    assert np.array_equal((overlay == np.asarray(image)).all(axis=-1), wide)
