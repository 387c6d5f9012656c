"""Counts of all thresholds at once against one threshold at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from goca.evaluation.counting import Counts, Totals, count, decide, no_class_found
from goca.evaluation.metrics import boundary_band, count_boundary, count_pixels
from goca.maps.background import BACKGROUND_RULES, assign_labels
from goca.maps.resize import resize_maps
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
    totals.add(count(no_class_found(SIZE, (0.0, 0.1)), target(0), CLASSES))
    for step in (0, 1):
        assert totals.confusion(step)[:, 0].sum() == (target(0) != 255).sum() == totals.confusion(step).sum()


def test_by_the_published_rules_classes_without_a_map_score_0() -> None:
    """All classes compete, the background as number 0; the first of equal scores wins."""
    scores = maps(3)
    scores.maps[:, :4] = 0  # nothing is seen there
    decision = decide(scores, INDICES, SIZE, "offset", THRESHOLDS, CLASSES)
    seen = set()
    for step, threshold in enumerate(THRESHOLDS):
        competing = torch.zeros(CLASSES, *SIZE)
        competing[list(INDICES)] = resize_maps(scores.maps, SIZE)
        competing[0] = resize_maps(scores.background[None], SIZE)[0] + threshold
        np.testing.assert_array_equal(decision.labels(step), competing.argmax(dim=0).numpy())
        seen |= set(decision.labels(step).flatten().tolist())
    assert seen == {0, 1, *INDICES}  # 1 is the lowest class without a map


def test_ties_go_to_the_background_and_no_class_to_class_1_as_published() -> None:
    flat = ScoreMaps(("a",), torch.full((1, 3, 3), 0.5), torch.full((3, 3), 0.5))
    assert (decide(flat, [2], (3, 3), "offset", [0.0], CLASSES).labels() == 0).all()
    assert (decide(flat, [2], (3, 3), "offset", [0.0]).labels() == 2).all()
    empty = ScoreMaps((), torch.zeros(0, 3, 3), torch.ones(3, 3))
    decision = decide(empty, [], (3, 3), "offset", THRESHOLDS, CLASSES)
    assert all((decision.labels(step) == 1).all() for step in range(len(THRESHOLDS)))
    every = ScoreMaps(tuple("abcde"), torch.zeros(5, 3, 3), torch.zeros(3, 3))
    assert (decide(every, [5, 4, 3, 2, 1], (3, 3), "offset", [-0.1], CLASSES).labels() == 1).all()


@pytest.mark.parametrize("labels", [target(1), np.full(SIZE, 255, dtype=np.uint8)])
@pytest.mark.parametrize("thresholds", [(), THRESHOLDS])
def test_counts_survive_json(labels: np.ndarray, thresholds: tuple[float, ...]) -> None:
    counts = count(decide(maps(1), INDICES, SIZE, "offset", thresholds), labels, CLASSES)
    back = Counts.from_json(json.loads(json.dumps(counts.to_json())), len(thresholds), CLASSES)
    for key, array in vars(counts).items():
        np.testing.assert_array_equal(getattr(back, key), array)


@pytest.mark.parametrize("thresholds", [(0.1, 0.2), (0.0, 0.1, 0.2)])
def test_a_background_rule_that_falls_as_the_threshold_rises_is_refused(
    monkeypatch: pytest.MonkeyPatch, thresholds: tuple[float, ...]
) -> None:
    """Its labels would differ from those of :func:`assign_labels` without a word."""
    monkeypatch.setitem(BACKGROUND_RULES, "falling", lambda background, threshold: background - threshold)
    scores = ScoreMaps(("a",), torch.rand(1, 4, 4), torch.rand(4, 4))
    with pytest.raises(ValueError, match=r"'falling' gives a lower score at threshold 0\.[12] than at a lower"):
        decide(scores, [1], (8, 8), "falling", thresholds)
    assert decide(scores, [1], (8, 8), "falling", thresholds[:1]).steps == 1
