"""Results to explore: an explanation by a tiny model, and a result with hostile names."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image
from small import photo, tiny_model

from goca import Segmenter
from goca.observation import Explanation
from goca.result import Segmentation

HOSTILE = ("<img src=x onerror=alert(1)>", "a\x1b[2Jb\u202ec", "</script><script>alert(2)</script>", "${title}&amp;")


@lru_cache
def explanation(threshold: float | None = 0.4) -> Explanation:
    """A random picture of 50 x 30 pixels, explained by a tiny UNet, with a further word in its caption."""
    segmenter = Segmenter(tiny_model("unet"))
    return segmenter.explain(photo(1), ["cat", "grass"], caption="a cat and big grass", threshold=threshold)


def segmentation(
    classes: tuple[str, ...] = ("cat", "grass", "sky"), width: int = 60, height: int = 40, seed: int = 0
) -> Segmentation:
    """A picture whose labels are the classes with the highest of random maps of 5 x 8 pixels."""
    maps = np.random.default_rng(seed).random((len(classes), 5, 8), dtype=np.float32)
    labels = np.kron(maps.argmax(axis=0), np.ones((height // 5 + 1, width // 8 + 1), int))[:height, :width]
    return Segmentation(photo(seed, width, height), classes, labels, maps, ("Look <b>closely</b>.",))


def grey(width: int, height: int) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", (width, height), (90, 90, 90))
