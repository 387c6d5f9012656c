"""Small data sets in the true formats, and counts of their pixels that do not use the project's mapping."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from goca.datasets.base import VOID, Dataset, Sample


def write_photo(path: Path, width: int, height: int) -> None:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_grey(path: Path, ids: np.ndarray) -> None:
    """A grey PNG of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def write_list(path: Path, names: list[str]) -> None:
    """One name per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def patches(values: list[int], height: int = 12, width: int = 14, dtype: type = np.uint8) -> np.ndarray:
    """A map that holds all the values, each in an area of another size."""
    places = np.minimum(np.sqrt(np.arange(height * width)).astype(int), len(values) - 1)
    return np.array(values, dtype)[places].reshape(height, width)


def named_counts(dataset: Dataset, sample: Sample) -> dict[str, int]:
    """Pixels per name of a class, or ``void``, in a sample."""
    names = {**dict(enumerate(dataset.class_names)), VOID: "void"}
    return dict(Counter(names[value] for value in sample.labels.ravel().tolist()))


def grey_counts(path: Path, names: dict[int, str]) -> dict[str, int]:
    """Pixels per name in a grey PNG, by Pillow's histogram."""
    found: Counter[str] = Counter()
    for value, pixels in enumerate(Image.open(path).histogram()):
        if pixels:
            found[names[value]] += pixels
    return dict(found)
