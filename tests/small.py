"""A tiny model on a small grid, and pictures for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tiny
from PIL import Image

from goca.models import LoadedModel, wrap


def tiny_model(family: str) -> LoadedModel:
    """A tiny pipeline for tiny images, its maps on a small grid; refined once, as more would blur them to rounding."""
    model = wrap("tiny", tiny.FAMILIES[family].build())
    return replace(model, spec=replace(model.spec, image_size=32, output_grid=16, refine_order=1))


def photo(seed: int, width: int = 50, height: int = 30) -> Image.Image:
    """Random colours, smoothed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
