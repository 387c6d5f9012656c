"""Integer counts of one image for all thresholds at once, sparse enough to be written down per image.

A threshold only moves the background's score, and never down when it grows. So every pixel has one best class and one
place in the ascending list of thresholds from which on the background beats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from goca.datasets.base import VOID
from goca.evaluation.metrics import boundary_band, count_boundary
from goca.lookup import look_up
from goca.maps.background import BACKGROUND_RULES, best_class
from goca.maps.resize import resize_maps
from goca.storage.fields import check_keys, distinct, whole_numbers
from goca.types import ScoreMaps


@dataclass(frozen=True, eq=False)
class Decision:
    """The labels of one image at every threshold.

    Attributes:
        classes: (height, width) best class of the data set.
        first: (height, width) index of the first threshold at which the background wins, ``steps`` where none does.
        steps: how many thresholds there are; 0 without a background.
    """

    classes: UInt8[np.ndarray, "height width"]
    first: UInt8[np.ndarray, "height width"]
    steps: int

    def labels(self, step: int = 0) -> UInt8[np.ndarray, "height width"]:
        """Predicted classes at threshold number ``step``; the background is 0."""
        return np.where(self.first <= step, np.uint8(0), self.classes) if self.steps else self.classes


def decide(
    scores: ScoreMaps,
    indices: Sequence[int],
    size: tuple[int, int],
    rule: str,
    thresholds: Sequence[float],
    classes: int | None = None,
) -> Decision:
    """From maps to the labels at every threshold, as :func:`goca.maps.background.assign_labels` gives them one by one.

    With ``classes`` as the published evaluation does: classes without a map score 0, so that one of them wins where a
    negative threshold puts the background below 0 and no other class is above; the background wins a tie, then the
    lowest class. An image in which no class was found becomes class 1.

    Args:
        indices: the data set's class of every map.
        size: (height, width) of the true labels.
        rule: for the background's score, a key of :data:`goca.maps.background.BACKGROUND_RULES`.
        thresholds: ascending; empty without a background.
        classes: how many the data set has, the background included.

    Raises:
        ValueError: unknown rule, or one whose score falls somewhere as the threshold rises: then no pixel has one place
            in the list from which on the background wins.
    """
    if classes is not None:
        if not indices:
            return no_class_found(size, thresholds, classes)
        scores, indices = _with_absent(scores, indices, classes)
    best, winners = best_class(scores, size)
    score_background = look_up(BACKGROUND_RULES, rule, "background rule")
    first = torch.zeros(size, dtype=torch.uint8, device=best.device)
    if thresholds:
        background = resize_maps(scores.background[None], size)[0]
        lower = torch.full_like(background, -torch.inf)
        for threshold in thresholds:
            score = score_background(background, threshold)
            if not (score >= lower).all():
                raise ValueError(
                    f"background rule {rule!r} gives a lower score at threshold {threshold} than at a lower threshold; "
                    "take one whose score rises or stays"
                )
            first += ~(score > best if classes is None else score >= best)
            lower = score
    lookup = np.asarray(indices, dtype=np.uint8)
    return Decision(lookup[winners.cpu().numpy()], first.cpu().numpy(), len(thresholds))


def _with_absent(scores: ScoreMaps, indices: Sequence[int], classes: int) -> tuple[ScoreMaps, list[int]]:
    """The maps by ascending class, with a map of zeros for the lowest class that has none."""
    maps = dict(zip(indices, scores.maps, strict=True))
    absent = next((index for index in range(1, classes) if index not in maps), None)
    if absent is not None:
        maps[absent] = torch.zeros_like(scores.background)
    order = sorted(maps)
    named = tuple(str(index) for index in order)
    return replace(scores, classes=named, maps=torch.stack([maps[index] for index in order])), order


def no_class_found(size: tuple[int, int], thresholds: Sequence[float], classes: int | None = None) -> Decision:
    """The labels of an image in which no class is looked for: background, or class 1 by the published rules.

    Args:
        classes: as of :func:`decide`.
    """
    steps = len(thresholds)
    if classes is None:
        return Decision(np.zeros(size, np.uint8), np.zeros(size, np.uint8), steps)
    return Decision(np.ones(size, np.uint8), np.full(size, steps, np.uint8), steps)


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of one image.

    Attributes:
        cells: (true class, best class) that occur together.
        pixels: of every cell, by :attr:`Decision.first`.
        edges: classes that have a boundary.
        boundary: their (common, predicted, true) boundary pixels at every threshold.
    """

    cells: Int64[np.ndarray, "cells 2"]
    pixels: Int64[np.ndarray, "cells columns"]
    edges: Int64[np.ndarray, " edges"]
    boundary: Int64[np.ndarray, "edges steps 3"]

    def to_json(self) -> dict[str, list]:
        """Lists alone."""
        return {key: array.tolist() for key, array in vars(self).items()}

    @classmethod
    def from_json(cls, entry: Any, steps: int, classes: int) -> Counts:
        """The inverse of :meth:`to_json` for ``steps`` thresholds and so many classes.

        Raises:
            ValueError: counts that no image has.
        """
        check_keys(entry, ("cells", "pixels", "edges", "boundary"))
        cells = whole_numbers(entry, "cells", (-1, 2), classes - 1)
        pixels = whole_numbers(entry, "pixels", (-1, steps + 1))
        edges = np.array(distinct(entry, "edges", classes - 1), dtype=np.int64)
        boundary = whole_numbers(entry, "boundary", (-1, max(1, steps), 3))
        if len(cells) != len(pixels) or len(edges) != len(boundary):
            raise ValueError("it has another number of cells than of counts")
        if len(np.unique(cells, axis=0)) < len(cells):
            raise ValueError("it counts a pair of classes twice")
        if (boundary[..., 0] > boundary[..., 1:].min(axis=-1)).any():
            raise ValueError("it has more common boundary pixels than boundary pixels")
        return cls(cells, pixels, edges, boundary)

    def target_pixels(self, classes: int) -> Int64[np.ndarray, " classes"]:
        """How many pixels of each class the target has."""
        return np.bincount(self.cells[:, 0], weights=self.pixels.sum(axis=1), minlength=classes).astype(np.int64)


def count(decision: Decision, target: UInt8[np.ndarray, "height width"], classes: int) -> Counts:
    """Compare all thresholds' labels with the target; :data:`goca.datasets.base.VOID` pixels do not count."""
    known, columns = target != VOID, decision.steps + 1
    best, first, true = (array[known].astype(np.int64) for array in (decision.classes, decision.first, target))
    codes = (true * classes + best) * columns + first
    table = np.bincount(codes, minlength=classes**2 * columns).reshape(classes, classes, columns)
    cells = np.argwhere(table.any(axis=2))
    band = boundary_band(target)
    boundary = np.stack(
        [count_boundary(decision.labels(step), target, band, classes, VOID) for step in range(max(1, decision.steps))],
        axis=1,
    )
    edges = np.flatnonzero(boundary.any(axis=(1, 2)))
    return Counts(cells, table[cells[:, 0], cells[:, 1]], edges, boundary[edges])


class Totals:
    """Counts of many images, for ``steps`` thresholds (0 without a background)."""

    def __init__(self, classes: int, steps: int) -> None:
        self.steps = steps
        self.table: Int64[np.ndarray, "classes classes columns"] = np.zeros((classes, classes, steps + 1), np.int64)
        self.boundaries: Int64[np.ndarray, "classes steps 3"] = np.zeros((classes, max(1, steps), 3), np.int64)

    def add(self, counts: Counts) -> None:
        """Add one image."""
        self.table[counts.cells[:, 0], counts.cells[:, 1]] += counts.pixels
        self.boundaries[counts.edges] += counts.boundary

    def confusion(self, step: int = 0) -> Int64[np.ndarray, "classes classes"]:
        """Pixels [true, predicted] at threshold number ``step``."""
        if self.steps == 0:
            return self.table[..., 0]
        counts = self.table[..., step + 1 :].sum(axis=-1)
        counts[:, 0] += self.table[..., : step + 1].sum(axis=(1, 2))
        return counts

    def boundary(self, step: int = 0) -> Int64[np.ndarray, "classes 3"]:
        """Common, predicted and true boundary pixels of every class at threshold number ``step``."""
        return self.boundaries[:, step]
