"""Scenes: a small world of rendered pictures with exact masks and captions, unlimited in number.

A scene has one kind of stuff above (sky, night, wall, sunset), one below (grass, sand, water, snow, road, wood) and
one to three objects from a sprite atlas in front of them. Scene ``index`` of ``seed`` is always the same picture,
whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from goca.datasets.base import Dataset, Sample
from goca.ranges import LARGEST_SIDE, check_seed, check_whole

ATLAS = Path(__file__).parent / "sprites" / "atlas.webp"
SPRITE_SIDE = 128

UPPER = ("sky", "night", "wall", "sunset")
LOWER = ("grass", "sand", "water", "snow", "road", "wood")
OBJECTS = {
    "dog": "1f415",
    "cat": "1f408",
    "horse": "1f40e",
    "elephant": "1f418",
    "sheep": "1f411",
    "penguin": "1f427",
    "bird": "1f426",
    "turtle": "1f422",
    "car": "1f697",
    "bus": "1f68c",
    "train": "1f682",
    "fire engine": "1f692",
    "boat": "26f5",
    "airplane": "2708-fe0f",
    "house": "1f3e0",
    "tree": "1f333",
    "sunflower": "1f33b",
    "umbrella": "2602-fe0f",
}
CLASS_NAMES: tuple[str, ...] = (*UPPER, *LOWER, *OBJECTS)
MIN_VISIBLE = 0.6
MIN_SIZE = 16


@dataclass(frozen=True)
class Scene:
    """One picture with its target labels.

    Attributes:
        image: RGB picture, size x size.
        labels: (size, size) uint8 indices into :data:`CLASS_NAMES`; every pixel belongs to a class.
        classes: names of the classes in the picture, in the order of the caption.
        caption: these names separated by commas.
    """

    image: Image.Image
    labels: np.ndarray
    classes: tuple[str, ...]

    @property
    def caption(self) -> str:
        return ", ".join(self.classes)


def make_scene(seed: int, index: int, size: int = 128, detail: int = 1) -> Scene:
    """Draw scene ``index`` of the endless series ``seed`` at ``size`` x ``size`` pixels.

    Args:
        detail: the objects are so many times smaller than usual; at 4 and 512 pixels they are as large, in pixels, as
            those of a usual scene of 128 pixels.
    """
    rng = np.random.default_rng((seed, index))
    upper, lower = rng.integers(len(UPPER)), rng.integers(len(LOWER))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    horizon = rng.uniform(0.3, 0.65) + rng.uniform(-0.15, 0.15) * (x - 0.5)
    horizon = horizon + rng.uniform(0.0, 0.03) * np.sin(2 * np.pi * (rng.uniform(0.5, 2.0) * x + rng.uniform()))
    below = y > horizon
    canvas = np.where(below[..., None], _STUFF[LOWER[lower]](rng, y, x), _STUFF[UPPER[upper]](rng, y, x))
    labels = np.where(below, len(UPPER) + lower, upper).astype(np.uint8)

    chosen = rng.choice(len(OBJECTS), size=rng.integers(1, 4), replace=False)
    bottoms = np.sort(rng.uniform(0.5, 1.0, size=len(chosen)))  # what stands lower is nearer and hides the rest
    for sprite, bottom in zip(chosen, bottoms, strict=True):
        _place(rng, canvas, labels, int(sprite), float(bottom), detail)

    gain, lift = rng.uniform(0.85, 1.1), rng.uniform(-0.05, 0.05)
    canvas = np.clip(canvas * gain + lift + rng.normal(0, 0.008, canvas.shape), 0, 1)
    present = [CLASS_NAMES[i] for i in np.unique(labels)]
    order = rng.permutation(len(present))
    image = Image.fromarray((canvas * 255).round().astype(np.uint8))
    return Scene(image, labels, tuple(present[i] for i in order))


class Scenes(Dataset):
    """The first ``limit`` scenes of the series ``seed``, each ``size`` x ``size`` pixels, with their captions.

    Every pixel belongs to a class: there is no background, and nothing is void.

    Raises:
        ValueError: a root or split, which scenes do not have, or a number out of range.
    """

    key = "scenes"

    def __init__(
        self,
        root: str | Path | None = None,
        split: str | None = None,
        *,
        seed: int = 0,
        limit: int = 200,
        size: int = 128,
    ) -> None:
        if root is not None or split is not None:
            raise ValueError("scenes are drawn, not read: they have no root folder and no splits; leave both out")
        check_seed(seed)
        check_whole("the limit of the scenes", limit, 1)
        check_whole("the size of the scenes", size, MIN_SIZE, LARGEST_SIDE)
        self.seed, self.size = seed, size
        self.classes = tuple((name,) for name in CLASS_NAMES)
        self.names = tuple(f"{index:05d}.png" for index in range(limit))

    def __getitem__(self, index: int) -> Sample:
        scene = make_scene(self.seed, int(self.names[index].removesuffix(".png")), self.size)
        return Sample(self.names[index], scene.image, scene.labels, scene.caption)


def _place(rng: Generator, canvas: np.ndarray, labels: np.ndarray, sprite: int, bottom: float, detail: int) -> None:
    """Paste one sprite where it hides no earlier object by more than ``1 - MIN_VISIBLE``; try a few places, else
    leave it out."""
    size, first_object = canvas.shape[0], len(UPPER) + len(LOWER)
    side = int(size * rng.uniform(0.42, 0.70) / detail)
    picture = _sprites()[sprite].resize((side, side), Image.Resampling.BILINEAR)
    if rng.uniform() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rgba = np.asarray(picture, np.float32) / 255
    tint = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    for _ in range(8):
        top = int(np.clip(bottom * size - side, 0, size - side))
        left = int(rng.integers(0, size - side + 1))
        window = np.s_[top : top + side, left : left + side]
        mask = rgba[..., 3] > 0.5
        covered = np.bincount(labels[window][mask], minlength=len(CLASS_NAMES))
        total = np.bincount(labels.ravel(), minlength=len(CLASS_NAMES))
        remaining = 1 - covered / np.maximum(total, 1)
        hides = (remaining < MIN_VISIBLE) & (total > 0)
        hides[:first_object] = (total[:first_object] > 0) & (remaining[:first_object] < 0.3)
        if not hides.any():
            alpha = rgba[..., 3:]
            canvas[window] = canvas[window] * (1 - alpha) + np.clip(rgba[..., :3] * tint, 0, 1) * alpha
            labels[window][mask] = first_object + sprite
            return


@lru_cache(maxsize=1)
def _sprites() -> list[Image.Image]:
    atlas = Image.open(ATLAS).convert("RGBA")
    return [atlas.crop((i * SPRITE_SIDE, 0, (i + 1) * SPRITE_SIDE, SPRITE_SIDE)) for i in range(len(OBJECTS))]


def _colour(rng: Generator, rgb: tuple[float, float, float], spread: float = 0.06) -> np.ndarray:
    return np.asarray(rgb, np.float32) + rng.uniform(-spread, spread, 3).astype(np.float32)


def _blend(amount: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    amount = np.clip(amount, 0, 1)[..., None].astype(np.float32)
    return low * (1 - amount) + high * amount


def _noise(rng: Generator, shape: tuple[int, ...], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1]: a few random cells, enlarged."""
    coarse = Image.fromarray(rng.uniform(0, 1, cells).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _sky(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    base = _blend(y * 1.4, _colour(rng, (0.32, 0.60, 0.93)), _colour(rng, (0.72, 0.87, 0.98)))
    clouds = np.clip(_noise(rng, y.shape, (6, 4)) * 2.2 - 1.3, 0, 0.8)
    return _blend(clouds, base, np.ones(3, np.float32))


def _night(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    base = _blend(y * 1.4, _colour(rng, (0.05, 0.06, 0.18), 0.03), _colour(rng, (0.16, 0.17, 0.38), 0.04))
    stars = (rng.uniform(size=y.shape) > 0.992).astype(np.float32) * rng.uniform(0.5, 1.0)
    return _blend(stars, base, np.ones(3, np.float32))


def _sunset(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    top, middle = _colour(rng, (0.48, 0.26, 0.56)), _colour(rng, (0.96, 0.50, 0.36))
    base = np.where(
        (y < 0.3)[..., None],
        _blend(y / 0.3, top, middle),
        _blend((y - 0.3) / 0.35, middle, _colour(rng, (0.99, 0.80, 0.45))),
    )
    return _blend(np.clip(_noise(rng, y.shape, (10, 3)) - 0.6, 0, 0.5), base, top)


def _wall(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    rows, columns = rng.integers(10, 16), rng.integers(5, 8)
    row = np.floor(y * rows)
    shifted = x * columns + 0.5 * (row % 2)
    mortar = (((y * rows) % 1) < 0.16) | ((shifted % 1) < 0.08)
    tone = np.sin(row * 12.9898 + np.floor(shifted) * 78.233) * 0.5 + 0.5
    brick = _blend(tone, _colour(rng, (0.60, 0.30, 0.25)), _colour(rng, (0.74, 0.42, 0.33)))
    return np.where(mortar[..., None], _colour(rng, (0.80, 0.75, 0.70)), brick)


def _grass(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    blades = 0.55 * _noise(rng, y.shape, (20, 64)) + 0.45 * _noise(rng, y.shape, (5, 5))
    return _blend(blades, _colour(rng, (0.13, 0.40, 0.12)), _colour(rng, (0.46, 0.72, 0.26)))


def _sand(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    grain = 0.35 * rng.uniform(size=y.shape) + 0.65 * _noise(rng, y.shape, (9, 4))
    return _blend(grain, _colour(rng, (0.80, 0.66, 0.40)), _colour(rng, (0.95, 0.86, 0.62)))


def _water(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    phase = (
        y * rng.uniform(60, 90)
        + 2.5 * np.sin(x * rng.uniform(8, 16) + rng.uniform(0, 6))
        + 3 * _noise(rng, y.shape, (5, 5))
    )
    return _blend(0.5 + 0.5 * np.sin(phase), _colour(rng, (0.04, 0.32, 0.55)), _colour(rng, (0.22, 0.58, 0.74)))


def _snow(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _blend(
        _noise(rng, y.shape, (6, 4)), _colour(rng, (0.80, 0.86, 0.95), 0.03), _colour(rng, (0.97, 0.98, 1.0), 0.02)
    )


def _road(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    grey = rng.uniform(0.28, 0.42)
    asphalt = (grey + 0.10 * (rng.uniform(size=y.shape) - 0.5))[..., None] * np.ones(3, np.float32)
    period, line = rng.uniform(0.18, 0.3), rng.uniform(0.72, 0.9)
    dash = (np.abs(y - line) < 0.014) & (((x + rng.uniform()) / period) % 1 < 0.6)
    return np.where(dash[..., None], _colour(rng, (0.92, 0.90, 0.80)), asphalt)


def _wood(rng: Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    planks = rng.integers(6, 10)
    plank = np.floor(x * planks)
    grain = 0.5 + 0.3 * np.sin(y * 18 + plank * 2.4 + 4 * _noise(rng, y.shape, (4, 8))) + 0.2 * np.sin(plank * 12.9)
    wood = _blend(grain, _colour(rng, (0.40, 0.24, 0.11)), _colour(rng, (0.64, 0.42, 0.22)))
    return np.where((((x * planks) % 1) < 0.08)[..., None], wood * 0.55, wood)


_STUFF: dict[str, Callable[[Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "sky": _sky,
    "night": _night,
    "wall": _wall,
    "sunset": _sunset,
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "snow": _snow,
    "road": _road,
    "wood": _wood,
}
