"""Mean intersection over union from an integer confusion matrix."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64, Integer

PROTOCOLS = ("paper", "standard")


class ConfusionMatrix:
    """Counts of (true class, predicted class) pixels over a data set; index 0 is the background where a data set has
    one.

    Args:
        classes: how many classes there are, the background included.
        ignore: label whose pixels do not count; ``None`` counts all.
    """

    def __init__(self, classes: int, ignore: int | None = None) -> None:
        if classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class, not {classes}")
        self.classes, self.ignore = classes, ignore
        self.counts: Int64[np.ndarray, "classes classes"] = np.zeros((classes, classes), dtype=np.int64)

    def update(self, predicted: Integer[np.ndarray, "*pixels"], truth: Integer[np.ndarray, "*true_pixels"]) -> None:
        """Count one image's pixels.

        Raises:
            ValueError: shapes that differ, or a label outside 0 ... classes - 1 that is not the ignored one.
        """
        self.counts += count_pixels(predicted, truth, self.classes, self.ignore)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another worker's counts."""
        if other.classes != self.classes:
            raise ValueError(f"cannot add counts of {other.classes} classes to counts of {self.classes}")
        self.counts += other.counts

    def intersection_union(self) -> Int64[np.ndarray, "classes 2"]:
        """Per class: pixels where prediction and truth agree on it, and pixels where either says it."""
        return intersection_union(self.counts)

    def iou(self) -> Float64[np.ndarray, " classes"]:
        """Intersection / union per class; NaN for a class that neither occurs nor is predicted."""
        intersection, union = self.intersection_union().T
        return np.divide(intersection, union, out=np.full(self.classes, np.nan), where=union > 0)

    def miou(self, protocol: str = "paper") -> float:
        """Mean over the classes; see :func:`mean_iou`."""
        return mean_iou(self.intersection_union(), protocol)


def count_pixels(
    predicted: Integer[np.ndarray, "*pixels"],
    truth: Integer[np.ndarray, "*true_pixels"],
    classes: int,
    ignore: int | None = None,
) -> Int64[np.ndarray, "classes classes"]:
    """Counts [true, predicted] of one image.

    Raises:
        ValueError: shapes that differ, or labels out of range.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction of shape {predicted.shape} and truth of shape {truth.shape} differ; resize one")
    predicted, truth = predicted.ravel().astype(np.int64), truth.ravel().astype(np.int64)
    if ignore is not None:
        kept = truth != ignore
        predicted, truth = predicted[kept], truth[kept]
    for name, labels in (("predicted", predicted), ("true", truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"{name} labels go from {labels.min()} to {labels.max()}, beyond {classes} classes; map them first"
            )
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def intersection_union(counts: Int64[np.ndarray, "classes classes"]) -> Int64[np.ndarray, "classes 2"]:
    """Intersection and union of every class from counts [true, predicted]."""
    intersection = np.diagonal(counts)
    return np.stack([intersection, counts.sum(axis=0) + counts.sum(axis=1) - intersection], axis=1)


def mean_iou(intersections_unions: Int64[np.ndarray, "classes 2"], protocol: str = "paper") -> float:
    """mIoU in [0, 1].

    ``paper``: mean over all classes of intersection / (union + 1e-8), a class that never occurs counting 0.
    ``standard``: mean of intersection / union over the classes that occur or are predicted.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    intersection, union = intersections_unions[:, 0], intersections_unions[:, 1]
    if protocol == "paper":
        return float(np.mean(intersection / (union + 1e-8)))
    occurs = union > 0
    return float(np.mean(intersection[occurs] / union[occurs])) if occurs.any() else 0.0
