"""How much labels flicker in a video, with and without the same noise and the temporal average.

    python benchmarks/video_flicker.py [--clips 8] [--frames 12] [--seed 21] [--speed 1] [--model scenes-dit]

A clip is a camera that moves over a large generated scene (with --speed 0 it stands still), with new sensor noise in
each frame; its true labels move with it. Flicker is the share of pixels whose label changes between consecutive frames
though the true label does not. In the row "truth" it is the share whose true label changes. Accuracy is the share of
right pixels. Means over the clips with 95% intervals (bootstrap over clips); "other noise" gives each a seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from PIL import Image

from goca import Segmenter
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.maps.temporal import TemporalAverage
from goca.types import ScoreMaps

SIDE, WORLD = 128, 176
SENSOR = 0.02  # standard deviation of a frame's noise
WEIGHTS = (0.0, 0.3, 0.5, 0.7, 0.9)


def clip(seed: int, index: int, frames: int, speed: float) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Frames of a camera that moves from one corner region to another, and their true labels."""
    scene, rng = make_scene(seed, index, WORLD), np.random.default_rng((seed, index, 1))
    start, stop = rng.uniform(0, WORLD - SIDE, 2), rng.uniform(0, WORLD - SIDE, 2)
    pixels = np.asarray(scene.image, float) / 255
    for share in np.linspace(0, 1, frames):
        top, left = np.round(start + speed * share * (stop - start)).astype(int)
        window = np.s_[top : top + SIDE, left : left + SIDE]
        noisy = np.clip(pixels[window] + rng.normal(0, SENSOR, (SIDE, SIDE, 3)), 0, 1)
        yield Image.fromarray((noisy * 255).round().astype(np.uint8)), scene.labels[window].astype(int)


def measure(segmenter: Segmenter, seed: int, index: int, frames: int, speed: float) -> dict[str, list[float]]:
    """(flicker, accuracy) of one clip by setting, and (change in the truth, 1) under "truth"."""
    shown = list(clip(seed, index, frames, speed))
    names = make_scene(seed, index, WORLD).classes
    prompt, method = segmenter.prompt(list(names)), segmenter.resolve()
    own = np.array([CLASS_NAMES.index(name) for name in names])
    truth = [labels for _, labels in shown]

    def maps(image: Image.Image, noise: int) -> ScoreMaps:
        latents = segmenter.encode([image])
        mirrored = segmenter.encode([image], mirrored=True) if method.method.flip else None
        return segmenter.score(latents, [prompt], [method.method], noise, mirrored)[0][0][0]

    same = [maps(image, 0) for image, _ in shown]
    other = [maps(image, 1 + number) for number, (image, _) in enumerate(shown)]
    settings = {"other noise": (other, 0.0)} | {f"temporal {weight:g}": (same, weight) for weight in WEIGHTS}
    found = {"truth": [float(np.mean([np.mean(a != b) for a, b in pairwise(truth)])), 1.0]}
    for name, (each, weight) in settings.items():
        average = TemporalAverage(weight)
        results = [
            segmenter.segmentation(image, average(scores), method)
            for (image, _), scores in zip(shown, each, strict=True)
        ]
        labels = [own[result.labels] for result in results]
        changes = zip(pairwise(labels), pairwise(truth), strict=True)
        flicker = np.mean([np.mean((a != b) & (c == d)) for (a, b), (c, d) in changes])
        right = np.mean([np.mean(a == b) for a, b in zip(labels, truth, strict=True)])
        found[name] = [float(flicker), float(right)]
    return found


def interval(values: np.ndarray) -> list[float]:
    """Mean and 95% bootstrap interval over the clips."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    return [round(float(each), 4) for each in (values.mean(), *np.quantile(means, [0.025, 0.975]))]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--model", default="scenes-dit")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    segmenter = Segmenter.from_pretrained(arguments.model)
    frames, speed = arguments.frames, arguments.speed
    clips = [measure(segmenter, arguments.seed, index, frames, speed) for index in range(arguments.clips)]
    for name in clips[0]:
        flicker, right = np.array([each[name] for each in clips]).T
        less = flicker - np.array([each["temporal 0"][0] for each in clips])
        answer = {"flicker": interval(flicker), "against temporal 0": interval(less), "accuracy": interval(right)}
        print(json.dumps({"setting": name, **answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
