"""A word has one colour in the sheet, in its key and in the segmentation."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from goca import Segmentation
from goca.guidance.generate import Generation
from goca.guidance.run import GuidanceStep, Regions
from goca.guidance.sheet import sheet

CLASSES = ("bus", "sky")


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}  # type: ignore[misc]


def test_regions_and_key_have_the_colours_of_the_segmentation() -> None:
    masks = torch.zeros(3, 4, 4)
    masks[0, :2], masks[1, 2], masks[2, 3] = 1.0, 1.0, 1.0
    regions = Regions(masks, torch.ones(4, 4))
    step = GuidanceStep(0, 999.0, (regions,), (torch.ones(4, 4),))
    image = Image.new("RGB", (8, 8), "white")
    found = Segmentation(image, CLASSES, np.zeros((8, 8), np.int64), np.zeros((2, 4, 4), np.float32))
    result = Generation("sky, bus", 0, "goca", image, ("sky", ",", "bus"), (step,), (), found)
    picture = sheet([result])
    key = picture.crop((0, picture.height - 30, picture.width, picture.height))
    regions_below = picture.crop((0, 0, picture.width, picture.height - 40))
    assert set(found.colours) <= colours_of(key)
    assert set(found.colours) <= colours_of(regions_below)
