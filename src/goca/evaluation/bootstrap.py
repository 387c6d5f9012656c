"""How far an mIoU may be off that comes from few images: images drawn anew, with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from goca.evaluation.counting import Counts
from goca.evaluation.generation.statistics import draw_counts
from goca.evaluation.metrics import MEANS
from goca.lookup import look_up


def resampled_miou(images: Sequence[Counts], classes: int, steps: int, protocol: str) -> Float64[np.ndarray, " sets"]:
    """mIoU of a data set: first of its images, then of 1,000 sets of as many that are drawn from them.

    In every set the best of the thresholds is taken anew, as it was in the data set. Every call with as many images
    draws the same sets, so that differences of methods on the same images are paired.

    Args:
        images: counts of every image by one method.
        classes: how many the data set has.
        steps: how many thresholds there are; 0 without a background.
        protocol: whose mean is taken, a key of :data:`goca.evaluation.metrics.MEANS`.
    """
    mean = look_up(MEANS, protocol, "protocol")
    parts = np.stack([image_intersection_union(image, classes, steps) for image in images])
    drawn = draw_counts(len(images)).astype(np.float64)
    totals = (drawn @ parts.reshape(len(images), -1)).reshape(len(drawn), *parts.shape[1:])
    return mean(totals).max(axis=1)


def image_intersection_union(counts: Counts, classes: int, steps: int) -> Float64[np.ndarray, "thresholds classes 2"]:
    """Intersection and union of every class in one image, at every threshold (at one step without any).

    The same as :func:`goca.evaluation.metrics.intersection_union` of its confusion matrix, without that matrix.
    """
    true, best = counts.cells.T
    if steps:  # the background wins from a pixel's column on
        total = counts.pixels.sum(axis=1, keepdims=True)
        lost = counts.pixels.cumsum(axis=1)[:, :steps]
        kept = total - lost
    else:
        kept, lost = counts.pixels, np.zeros_like(counts.pixels)
    found: Int64[np.ndarray, "classes thresholds 3"] = np.zeros((classes, kept.shape[1], 3), np.int64)
    common, predicted, target = np.moveaxis(found, 2, 0)
    np.add.at(predicted, best, kept)
    predicted[0] += lost.sum(axis=0)
    np.add.at(target, true, kept + lost)
    same, background = true == best, true == 0
    np.add.at(common, true[same], kept[same])
    common[0] += lost[background].sum(axis=0)
    return np.stack([common, predicted + target - common], axis=-1).swapaxes(0, 1).astype(np.float64)
