"""What the embedded models learn from: pictures of scenes and their captions, never their masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from goca.datasets.scenes import CLASS_NAMES, make_scene

TRAINING_SEED = 1_000_003


def pictures(start: int, count: int, side: int = 128) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Training scenes ``start`` ... ``start + count - 1``: uint8 images (count x 3 x side x side) and, per caption,
    its class numbers."""
    scenes = [make_scene(TRAINING_SEED, index, side) for index in range(start, start + count)]
    images = np.stack([np.asarray(scene.image).transpose(2, 0, 1) for scene in scenes])
    captions = [tuple(CLASS_NAMES.index(name) for name in scene.classes) for scene in scenes]
    return images, captions


def stream_pictures(start: int, batch: int, batches: int) -> Iterator[tuple[Tensor, list[tuple[int, ...]]]]:
    """``batches`` batches of consecutive scenes, drawn ahead by as many processes as there are cores.

    The processes hand over plain arrays and are spawned: torch's threads and shared memory do not survive a fork.
    """
    starts = [start + batch * i for i in range(batches)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for images, captions in pool.map(partial(pictures, count=batch), starts):
            yield torch.from_numpy(images), captions


def to_unit(images: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return images.float() / 127.5 - 1


def write_caption(classes: tuple[int, ...], rng: Generator) -> str:
    """One of the ways to say what is in a picture.

    The names in random order: mostly all of them, sometimes only some; mostly a plain list, sometimes "a cat and a
    dog, grass"; and for 8% nothing at all, so that the model can be guided without a classifier.
    """
    if rng.uniform() < 0.08:
        return ""
    names = [CLASS_NAMES[i] for i in rng.permutation(np.asarray(classes))]
    if rng.uniform() < 0.1:
        names = names[: rng.integers(1, len(names) + 1)]
    if rng.uniform() < 0.15:
        names = [f"a {name}" if rng.uniform() < 0.7 else name for name in names]
        return names[0] + "".join(rng.choice([" and ", ", "]) + name for name in names[1:])
    return ", ".join(names)


def load_latents(folder: Path) -> tuple[Tensor, list[tuple[int, ...]]]:
    """The latents that :func:`goca.embedded.train.encode_scenes` wrote: float16 (count x channels x height x
    width), and the class numbers."""
    stored = torch.load(folder / "latents.pt", weights_only=True)
    return stored["latents"], [tuple(classes) for classes in stored["classes"]]
