"""Mean intersection over union, of whole classes and of their boundaries, from integer counts."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, Shaped

from goca.lookup import look_up

BOUNDARY_WIDTH = 0.02  # share of the image's diagonal


def count_pixels(
    predicted: Integer[np.ndarray, "*pixels"],
    target: Integer[np.ndarray, "*target_pixels"],
    classes: int,
    ignore: int | None = None,
) -> Int64[np.ndarray, "classes classes"]:
    """Counts [true, predicted] of one image; add them over a data set.

    Args:
        predicted: in 0 ... classes - 1; 0 is the background where a data set has one.
        target: likewise, or ``ignore``.
        classes: how many there are, the background included.
        ignore: target label whose pixels do not count; ``None`` counts all.

    Raises:
        ValueError: shapes that differ, or labels out of range.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"prediction of shape {predicted.shape} and target of shape {target.shape} differ; resize one")
    predicted, target = predicted.ravel().astype(np.int64), target.ravel().astype(np.int64)
    if ignore is not None:
        kept = target != ignore
        predicted, target = predicted[kept], target[kept]
    for name, labels in (("predicted", predicted), ("true", target)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"{name} labels go from {labels.min()} to {labels.max()}, beyond {classes} classes; map them first"
            )
    return np.bincount(target * classes + predicted, minlength=classes**2).reshape(classes, classes)


def intersection_union(counts: Int64[np.ndarray, "classes classes"]) -> Int64[np.ndarray, "classes 2"]:
    """Intersection and union of every class from counts [true, predicted]."""
    intersection = np.diagonal(counts)
    return np.stack([intersection, counts.sum(axis=0) + counts.sum(axis=1) - intersection], axis=1)


def class_iou(intersections_unions: Int64[np.ndarray, "classes 2"]) -> Float64[np.ndarray, " classes"]:
    """Intersection / union in [0, 1]; NaN for a class that neither occurs nor is predicted."""
    intersection, union = intersections_unions.T
    return np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)


def pixel_accuracy(counts: Int64[np.ndarray, "classes classes"]) -> float:
    """Share in [0, 1] of the pixels whose class is right; 0 where there are none."""
    return float(counts.trace() / max(1, counts.sum()))


def paper_mean(intersections_unions: Shaped[np.ndarray, "*sets classes 2"]) -> Float64[np.ndarray, "*sets"]:
    """Mean over all classes of intersection / (union + 1e-8); a class that never occurs counts 0."""
    intersection, union = np.moveaxis(intersections_unions, -1, 0)
    return np.asarray(np.mean(intersection / (union + 1e-8), axis=-1))


def standard_mean(intersections_unions: Shaped[np.ndarray, "*sets classes 2"]) -> Float64[np.ndarray, "*sets"]:
    """Mean of intersection / union over the classes that occur or are predicted; 0 where there are none."""
    intersection, union = np.moveaxis(intersections_unions, -1, 0)
    occurs = union > 0
    shares = np.divide(intersection, union, out=np.zeros(union.shape), where=occurs)
    return np.asarray(shares.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1))


MEANS = {"paper": paper_mean, "standard": standard_mean}  # by protocol


def mean_iou(intersections_unions: Int64[np.ndarray, "classes 2"], protocol: str = "paper") -> float:
    """mIoU in [0, 1] by the rule of a protocol, a key of :data:`MEANS`.

    Raises:
        ValueError: unknown protocol.
    """
    return float(look_up(MEANS, protocol, "protocol")(intersections_unions))


def boundary_band(labels: Integer[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels that boundary IoU looks at: those less than d pixels away from another label or from the image's
    border (Cheng et al., "Boundary IoU", CVPR 2021), d being 0.02 of the diagonal and at least 1.

    A pixel is outside the band where a window of (2 d + 1) x (2 d + 1) pixels around it lies in the image and holds one
    label alone. That is the union over the classes of mask minus eroded mask.
    """
    height, width = labels.shape
    reach = max(1, round(BOUNDARY_WIDTH * math.hypot(height, width)))
    band = np.ones((height, width), dtype=bool)
    if min(height, width) > 2 * reach:
        down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
        changes = _any(_any(down, 2 * reach, 0), 2 * reach + 1, 1) | _any(_any(across, 2 * reach, 1), 2 * reach + 1, 0)
        band[reach:-reach, reach:-reach] = changes
    return band


def _any(
    values: Bool[np.ndarray, "rows columns"], length: int, axis: int
) -> Bool[np.ndarray, "less_rows less_columns"]:
    """Whether any of ``length`` neighbours along an axis is true, by doubling."""
    values, span = np.moveaxis(values, axis, 0), 1
    while span < length:
        step = min(span, length - span)
        values = values[:-step] | values[step:]
        span += step
    return np.moveaxis(values, 0, axis)


def count_boundary(
    predicted: Integer[np.ndarray, "height width"],
    target: Integer[np.ndarray, "height width"],
    target_band: Bool[np.ndarray, "height width"],
    classes: int,
    ignore: int | None = None,
) -> Int64[np.ndarray, "classes 3"]:
    """Per class: pixels in both bands where both say it, pixels of the predicted band, pixels of the true band.

    Args:
        target_band: :func:`boundary_band` of ``target``.
        ignore: true label whose pixels do not count; it is a neighbour like any other.
    """
    counted = np.ones_like(target_band) if ignore is None else target != ignore
    own, true = boundary_band(predicted) & counted, target_band & counted
    parts = (target[own & true & (predicted == target)], predicted[own], target[true])
    return np.stack([np.bincount(part, minlength=classes) for part in parts], axis=1).astype(np.int64)


def boundary_intersection_union(counts: Int64[np.ndarray, "classes 3"]) -> Int64[np.ndarray, "classes 2"]:
    """Intersection and union of every class's boundary from :func:`count_boundary`, added over the images."""
    common, predicted, true = counts.T
    return np.stack([common, predicted + true - common], axis=1)
