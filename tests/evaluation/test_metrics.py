"""Confusion counts and mIoU against a count over Python sets."""

from __future__ import annotations

import numpy as np
import pytest

from goca.evaluation.metrics import class_iou, count_pixels, intersection_union, mean_iou


def by_sets(predicted, target, classes, ignore):
    pairs = [(p, t) for p, t in zip(predicted.ravel(), target.ravel(), strict=True) if t != ignore]
    result = []
    for index in range(classes):
        says = {i for i, (p, _) in enumerate(pairs) if p == index}
        has = {i for i, (_, t) in enumerate(pairs) if t == index}
        result.append((len(says & has), len(says | has)))
    return result


@pytest.mark.parametrize("ignore", [None, 255])
def test_counts_and_means_equal_sets(ignore):
    generator = np.random.default_rng(3)
    counts, every = np.zeros((6, 6), np.int64), []
    for shape in ((5, 7), (3, 9), (1, 1)):
        predicted, target = generator.integers(0, 5, shape), generator.integers(0, 4, shape).astype(np.uint8)
        if ignore is not None:
            target[0, 0] = ignore
        counts += count_pixels(predicted.astype(np.int32), target, 6, ignore)
        every.append((predicted, target))
    joined = [np.concatenate([pair[side].ravel() for pair in every]) for side in (0, 1)]
    expected = by_sets(*joined, 6, ignore)
    found = intersection_union(counts)
    assert found.tolist() == [list(pair) for pair in expected]
    assert mean_iou(found, "paper") == pytest.approx(sum(i / (u + 1e-8) for i, u in expected) / 6, abs=1e-12)
    present = [i / u for i, u in expected if u]
    assert len(present) == 5
    assert mean_iou(found, "standard") == pytest.approx(sum(present) / 5, abs=1e-12)
    assert np.isnan(class_iou(found)[5])


def test_nothing_seen_is_zero():
    nothing = np.zeros((3, 2), np.int64)
    assert mean_iou(nothing, "paper") == mean_iou(nothing, "standard") == 0


def test_errors():
    with pytest.raises(ValueError, match="true labels go from 0 to 255, beyond 2 classes"):
        count_pixels(np.array([0, 0]), np.array([0, 255]), 2)
    with pytest.raises(ValueError, match="predicted labels go from -1"):
        count_pixels(np.array([-1]), np.array([0]), 2)
    with pytest.raises(ValueError, match="resize one"):
        count_pixels(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="unknown protocol 'mine'; choose one of paper, standard"):
        mean_iou(np.zeros((2, 2), int), "mine")
