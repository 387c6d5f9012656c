"""Counts of all thresholds at once against one threshold at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from goca.evaluation.counting import Counts, Totals, count, decide, only_background
from goca.evaluation.metrics import boundary_band, count_boundary, count_pixels
from goca.maps.background import BACKGROUND_RULES, assign_labels
from goca.types import ScoreMaps

SIZE, CLASSES, INDICES = (60, 80), 6, (4, 2, 5)
THRESHOLDS = (-0.4, -0.1, 0.0, 0.1, 0.4)


def maps(seed: int) -> ScoreMaps:
    """Random maps with ties between classes and with the background."""
    scores = (torch.rand(4, 15, 20, generator=torch.Generator().manual_seed(seed)) * 8).round() / 8
    return ScoreMaps(("a", "b", "c"), scores[:3], scores[3])


def target(seed: int) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, CLASSES, (6, 8)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    labels[:7] = 255
    return labels


@pytest.mark.parametrize("rule", list(BACKGROUND_RULES))
def test_every_threshold_has_the_counts_of_its_own_labels(rule: str) -> None:
    totals = Totals(CLASSES, len(THRESHOLDS))
    for seed in range(3):
        totals.add(count(decide(maps(seed), INDICES, SIZE, rule, THRESHOLDS), target(seed), CLASSES))
    seen = set()
    for step, threshold in enumerate(THRESHOLDS):
        confusion, boundary = 0, 0
        for seed in range(3):
            predicted = np.array([*INDICES, 0])[assign_labels(maps(seed), SIZE, rule, threshold).numpy()]
            confusion = confusion + count_pixels(predicted, target(seed), CLASSES, 255)
            boundary += count_boundary(predicted, target(seed), boundary_band(target(seed)), CLASSES, 255)
        np.testing.assert_array_equal(totals.confusion(step), confusion)
        np.testing.assert_array_equal(totals.boundary(step), boundary)
        seen.add(confusion.tobytes())
    assert len(seen) >= (1 if rule == "exact" else 2)


def test_without_a_background_every_pixel_gets_a_class() -> None:
    decision = decide(maps(0), INDICES, SIZE, "offset", ())
    np.testing.assert_array_equal(decision.labels(), np.array(INDICES)[assign_labels(maps(0), SIZE, None).numpy()])
    totals = Totals(CLASSES, 0)
    totals.add(count(decision, target(0), CLASSES))
    assert totals.confusion().sum() == (target(0) != 255).sum()
    assert totals.confusion()[:, 0].sum() == 0


def test_where_nothing_is_looked_for_everything_is_background() -> None:
    totals = Totals(CLASSES, 2)
    totals.add(count(only_background(SIZE, (0.0, 0.1)), target(0), CLASSES))
    for step in (0, 1):
        assert totals.confusion(step)[:, 0].sum() == (target(0) != 255).sum() == totals.confusion(step).sum()


@pytest.mark.parametrize("labels", [target(1), np.full(SIZE, 255, dtype=np.uint8)])
@pytest.mark.parametrize("thresholds", [(), THRESHOLDS])
def test_counts_survive_json(labels: np.ndarray, thresholds: tuple[float, ...]) -> None:
    counts = count(decide(maps(1), INDICES, SIZE, "offset", thresholds), labels, CLASSES)
    back = Counts.from_json(json.loads(json.dumps(counts.to_json())), len(thresholds))
    for key, array in vars(counts).items():
        np.testing.assert_array_equal(getattr(back, key), array)
