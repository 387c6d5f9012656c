"""Which raw score tells best how good a mask is: ``python benchmarks/confidence_scores.py MODEL SERIES [SCENES]``.

Scenes are segmented into their classes and 0 to 4 others (as ``goca calibrate`` does). For each score: its rank
correlation with the IoU of the masks, and the expected calibration error before and after a logistic curve and after a
monotone step function (isotonic regression), each fitted to the other three quarters of the scenes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import ImageOps

from goca import Segmentation, Segmenter
from goca.calibration import fit_logistic
from goca.evaluation.confidence import bin_masks, rank_correlation
from goca.evaluation.named import name_image, open_images

SCORES = ("mean map", "margin", "agreement of flips", "agreement of seeds")
FOLDS = 4
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def mask(result: Segmentation, name: str) -> np.ndarray:
    return result.labels == result.classes.index(name)


def measure(segmenter: Segmenter, series: int, scenes: int) -> np.ndarray:
    """A row for each mask: number of the scene, its scores, its IoU."""
    dataset, count = open_images("scenes", limit=scenes, seed=series)
    straight, rows = replace(segmenter.method, flip=False), []
    for index in range(count):
        image = name_image(dataset, index, range(5), series)
        picture, names = image.sample.image, list(image.names)
        result, other = segmenter(picture, names), segmenter(picture, names, seed=1)
        here = segmenter(picture, names, method=straight)
        mirrored = segmenter(ImageOps.mirror(picture), names, method=straight)
        for each in result:
            flips = overlap(mask(here, each.name), mask(mirrored, each.name)[:, ::-1])
            seeds = overlap(each.mask, mask(other, each.name))
            inside = result.scores[each.index][each.mask].mean()
            rows.append((index, inside, result.raw_confidence[each.name], flips, seeds, image.iou(result, each.name)))
    return np.array(rows, dtype=np.float64)


def logistic(raw: np.ndarray, iou: np.ndarray, new: np.ndarray) -> np.ndarray:
    slope, offset = fit_logistic(raw, iou)
    return 1 / (1 + np.exp(-(slope * new + offset)))


def isotonic(raw: np.ndarray, iou: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The rising step function with the least squares, by pooling adjacent violators."""
    steps: list[list[float]] = []  # mean, weight, first score
    for at in np.argsort(raw, kind="stable"):
        steps.append([iou[at], 1, raw[at]])
        while len(steps) > 1 and steps[-2][0] >= steps[-1][0]:
            mean, weight, _ = steps.pop()
            before = steps[-1]
            before[0] = (before[0] * before[1] + mean * weight) / (before[1] + weight)
            before[1] += weight
    means, _, firsts = np.array(steps).T
    return means[np.searchsorted(firsts, new, side="right").clip(1) - 1]


def elsewhere(fit: Fit, scene: np.ndarray, raw: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Every mask's calibrated score by a curve that other scenes gave."""
    found = np.zeros_like(raw)
    for fold in range(FOLDS):
        own = scene % FOLDS == fold
        found[own] = fit(raw[~own], iou[~own], raw[own])
    return found


def error(scores: np.ndarray, iou: np.ndarray) -> float:
    bins = bin_masks(scores)
    return sum(abs((scores - iou)[bins == number].sum()) for number in range(bins.max() + 1)) / len(scores)


def main() -> None:
    model, series = sys.argv[1], int(sys.argv[2])
    scenes = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    scene, *scores, iou = measure(Segmenter.from_pretrained(model), series, scenes).T
    print(f"{model}, series {series}: {len(iou)} masks of {scenes} scenes, mean IoU {iou.mean():.3f}")
    for name, raw in zip(SCORES, scores, strict=True):
        curves = (elsewhere(fit, scene, raw, iou) for fit in (logistic, isotonic))
        after = ", ".join(f"{error(each, iou):.3f}" for each in curves)
        before = f"rank {rank_correlation(raw, iou):.3f}, error {error(raw, iou):.3f}"
        print(f"{name:19} {before}, with logistic and isotonic curve {after}")


if __name__ == "__main__":
    main()
