"""How well absent classes are told, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from toy import Toy, segmenter

from goca.absence import LEAST_GAIN
from goca.evaluation.absence import Names, assess_names, measure_names


def test_precision_and_recall_are_those_of_the_dropped_names() -> None:
    rng = np.random.default_rng(0)
    present = rng.uniform(size=90) < 0.6
    gain = np.where(present, 0.03, -0.01) + rng.normal(0, 0.02, 90)
    found = Names(np.arange(90) % 15, gain, rng.uniform(size=90), present, rng.uniform(size=(15, 3)), ())
    answer = assess_names(found)
    assert (answer["present"], answer["absent"]) == (present.sum(), (~present).sum())
    for row in answer["thresholds"]:
        dropped = gain < row["gain"]
        right = (dropped & ~present).sum()
        assert row["dropped"] == dropped.sum()
        assert row["precision"]["value"] == pytest.approx(right / dropped.sum())
        assert row["recall"]["value"] == pytest.approx(right / (~present).sum())
        assert row["recall"]["low"] <= row["recall"]["value"] <= row["recall"]["high"]
    assert LEAST_GAIN in [row["gain"] for row in answer["thresholds"]]
    pairs = [(a > b) + (a == b) / 2 for a in gain[present] for b in gain[~present]]
    assert answer["separation"]["gain"] == pytest.approx(np.mean(pairs))
    assert answer["iou"]["kept"]["value"] == pytest.approx(found.iou[:, 1].mean())
    assert answer["iou"]["kept - all"]["value"] == pytest.approx((found.iou[:, 1] - found.iou[:, 0]).mean())


def test_every_name_of_every_image_is_measured() -> None:
    dataset = Toy(4, background=False)
    names = measure_names(segmenter(), dataset, 4)
    counts = [min(4, len(set(dataset[index].labels.ravel()) - {255}) + 1 + index) for index in range(4)]
    assert np.bincount(names.image).tolist() == counts
    assert names.iou.shape == (4, 3) and ((names.iou >= 0) & (names.iou <= 1)).all()
    assert (names.iou[:, 2] != names.iou[:, 0]).any()  # with the true names alone
    assert np.isfinite(names.gain).all() and len(set(names.gain.tolist())) > 1
    assert [int(names.present[names.image == index].sum()) for index in range(4)] == [
        len(set(dataset[index].labels.ravel()) - {255}) for index in range(4)
    ]


def test_all_present_or_nothing_dropped_is_no_division_by_zero() -> None:
    names = Names(np.array([0, 1]), np.ones(2), np.ones(2), np.ones(2, bool), np.ones((2, 3)), ())
    answer = assess_names(names)
    assert answer["separation"]["gain"] is None and answer["thresholds"][0]["precision"]["value"] == 0
