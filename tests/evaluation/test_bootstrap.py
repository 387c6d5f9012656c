"""Intervals over images: sums of sparse counts against confusion matrices, and what the draws have to keep."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from goca.evaluation.bootstrap import image_intersection_union, resampled_miou
from goca.evaluation.counting import Counts, Decision, Totals, count
from goca.evaluation.generation.statistics import draw_counts
from goca.evaluation.metrics import MEANS, intersection_union, mean_iou
from goca.evaluation.runner import evaluate
from goca.evaluation.summary import method_result, with_intervals

CLASSES = 5


def counts(seed: int, steps: int) -> Counts:
    rng = np.random.default_rng(seed)
    best, target = (rng.integers(0, CLASSES, (9, 11), dtype=np.uint8) for _ in range(2))
    first = rng.integers(0, steps + 1, (9, 11), dtype=np.uint8) if steps else np.zeros((9, 11), np.uint8)
    return count(Decision(best, first, steps), target, CLASSES)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_sums_of_one_image_are_those_of_its_confusion_matrices(steps: int) -> None:
    for seed in range(4):
        image, totals = counts(seed, steps), Totals(CLASSES, steps)
        totals.add(image)
        expected = [intersection_union(totals.confusion(step)) for step in range(max(1, steps))]
        assert np.array_equal(image_intersection_union(image, CLASSES, steps), expected)


@pytest.mark.parametrize("protocol", list(MEANS))
@pytest.mark.parametrize("steps", [0, 3])
def test_each_set_is_the_miou_of_its_images(protocol: str, steps: int) -> None:
    images = [counts(seed, steps) for seed in range(6)]
    found = resampled_miou(images, CLASSES, steps, protocol)
    for drawn, value in list(zip(draw_counts(6), found, strict=True))[:5]:
        totals = Totals(CLASSES, steps)
        for image, times in zip(images, drawn, strict=True):
            for _ in range(times):
                totals.add(image)
        own = [mean_iou(intersection_union(totals.confusion(step)), protocol) for step in range(max(1, steps))]
        assert value == pytest.approx(max(own), abs=1e-12)


def test_a_difference_is_narrower_than_what_it_is_of() -> None:
    task = toy.task(data := toy.Toy(6))
    results = evaluate(toy.segmenter(), data, task)
    entries = [method_result(name, results, task) for name in task.methods]
    first, second = with_intervals(entries, results, task)
    assert first["difference"] is None and second["difference"]["value"] == second["miou"] - first["miou"]
    low, high = second["interval"]
    assert low < second["miou"] < high
    twice = with_intervals([entries[0], entries[0]], results, task)[1]["difference"]
    assert twice == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert [each["interval"] for each in with_intervals(entries, results[:1], task)] == [None, None]
