"""From the results of all images to one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from goca.evaluation.bootstrap import resampled_miou
from goca.evaluation.counting import Totals
from goca.evaluation.generation.statistics import interval
from goca.evaluation.metrics import (
    boundary_intersection_union,
    class_iou,
    intersection_union,
    mean_iou,
    pixel_accuracy,
)
from goca.evaluation.task import ImageResult, Task


def summarise(results: Sequence[ImageResult], task: Task) -> dict[str, Any]:
    """Per method the metrics, and what went wrong.

    Returns:
        ``results``, one entry per method (see :func:`method_result` and :func:`with_intervals`); ``failures``, the
        images that do not count, with the reason; ``missed``, by class the number of images whose caption does not name
        it though it is there; ``never_named``, classes of the target that no caption named.
    """
    good = sorted((result for result in results if result.error is None), key=lambda result: result.index)
    names = task.class_names
    missing = [index for result in good for index in result.missing]
    named = {index for result in good for index in result.named}
    return {
        "results": with_intervals([method_result(name, good, task) for name in task.methods], good, task),
        "failures": [
            {"image": result.name, "reason": result.error}
            for result in sorted(results, key=lambda result: result.index)
            if result.error is not None
        ],
        "missed": {names[index]: missing.count(index) for index in sorted(set(missing))},
        "never_named": [names[index] for index in sorted(set(missing) - named)],
    }


def method_result(name: str, results: Sequence[ImageResult], task: Task) -> dict[str, Any]:
    """The metrics of one method over all images.

    Returns:
        ``preset`` (its name), ``miou``, ``pixel_accuracy``, ``boundary_iou``, ``threshold`` (the best of the sweep for
        mIoU, the fixed one, or none), ``per_class`` and ``per_class_boundary`` (classes that occur or are predicted),
        ``sweep`` (where there was one), ``images`` and ``confusion``: [true, predicted, pixels] where there are any.
    """
    thresholds = task.protocol.thresholds_for(task.methods[name])
    totals = Totals(len(task.classes), len(thresholds))
    for result in results:
        totals.add(result.counts[name])
    steps = [_scores(totals, step, task) for step in range(max(1, len(thresholds)))]
    best = max(range(len(steps)), key=lambda step: steps[step]["miou"])
    confusion = totals.confusion(best)
    sweep = [{"threshold": value, **each} for value, each in zip(thresholds, steps, strict=False)]
    return {
        "preset": name,
        **steps[best],
        "threshold": thresholds[best] if thresholds else None,
        "images": len(results),
        "per_class": _by_class(intersection_union(confusion), task),
        "per_class_boundary": _by_class(boundary_intersection_union(totals.boundary(best)), task),
        **({"sweep": sweep} if len(thresholds) > 1 else {}),
        "confusion": [[int(row), int(col), int(confusion[row, col])] for row, col in np.argwhere(confusion)],
    }


def with_intervals(
    entries: Sequence[dict[str, Any]], results: Sequence[ImageResult], task: Task
) -> list[dict[str, Any]]:
    """Entries of :func:`method_result` with 95% intervals over the images, see
    :func:`goca.evaluation.bootstrap.resampled_miou`.

    Returns:
        each with ``interval``, [low, high] of ``miou`` (none for less than two images), and ``difference``, ``miou``
        minus the first method's on the same images as {``value``, ``low``, ``high``} (none for the first itself).
    """
    if len(results) < 2:
        return [{**entry, "interval": None, "difference": None} for entry in entries]
    classes, first = len(task.classes), None
    found: list[dict[str, Any]] = []
    for entry in entries:
        name = entry["preset"]
        steps = len(task.protocol.thresholds_for(task.methods[name]))
        sets = resampled_miou([each.counts[name] for each in results], classes, steps, task.protocol.name)
        own = interval(sets)
        difference = None if first is None else interval(sets - first)
        first = sets if first is None else first
        found.append({**entry, "interval": [own["low"], own["high"]], "difference": difference})
    return found


def image_miou(result: ImageResult, name: str, step: int, task: Task) -> float:
    """Mean IoU over the classes that one image has or was given."""
    totals = Totals(len(task.classes), len(task.protocol.thresholds_for(task.methods[name])))
    totals.add(result.counts[name])
    return mean_iou(intersection_union(totals.confusion(step)), "standard")


def _scores(totals: Totals, step: int, task: Task) -> dict[str, float]:
    confusion = totals.confusion(step)
    edges = boundary_intersection_union(totals.boundary(step))
    return {
        "miou": mean_iou(intersection_union(confusion), task.protocol.name),
        "pixel_accuracy": pixel_accuracy(confusion),
        "boundary_iou": mean_iou(edges, task.protocol.name),
    }


def _by_class(intersections_unions: np.ndarray, task: Task) -> dict[str, float]:
    shares = zip(task.class_names, class_iou(intersections_unions).tolist(), strict=True)
    return {name: share for name, share in shares if not np.isnan(share)}
