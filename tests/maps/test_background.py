"""Labels: background rules, ties, and chunks."""

from __future__ import annotations

import pytest
import torch

from goca.maps import background as labels_module
from goca.maps.background import assign_labels
from goca.types import ScoreMaps


def scores(classes, background):
    maps = torch.tensor(classes)[:, None, :]
    return ScoreMaps(tuple(map(str, range(len(maps)))), maps, torch.tensor(background)[None])


@pytest.mark.parametrize(
    ("rule", "threshold", "expected"),
    [
        (None, 0.0, [0, 1, 0]),
        ("offset", 0.2, [2, 1, 0]),
        ("offset", -0.1, [0, 1, 0]),
        ("max", 0.6, [0, 1, 2]),
        ("exact", 0.9, [2, 1, 0]),
        ("avg", 0.9, [2, 1, 2]),
        ("vanilla", 0.65, [2, 1, 2]),
    ],
)
def test_background_rules(rule, threshold, expected):
    maps = scores([[0.6, 0.1, 0.4], [0.2, 0.9, 0.4]], [0.65 if rule == "exact" else 0.5, 0.1, 0.05])
    assert assign_labels(maps, (1, 3), rule, threshold).tolist() == [expected]


def test_chunks_of_classes_change_nothing(monkeypatch):
    maps = ScoreMaps(tuple("abcdefg"), torch.rand(7, 5, 4), torch.rand(5, 4))
    whole = assign_labels(maps, (33, 21), "offset", 0.1)
    monkeypatch.setattr(labels_module, "CHUNK_SCORES", 33 * 21 * 2)
    assert torch.equal(assign_labels(maps, (33, 21), "offset", 0.1), whole)
    every = torch.cat([maps.maps, maps.background[None] + 0.1])
    resized = torch.nn.functional.interpolate(every[None], size=(33, 21), mode="bilinear")[0]
    assert torch.equal(whole, resized.argmax(dim=0))


def test_choices_are_checked():
    with pytest.raises(ValueError, match=r"unknown background rule 'min'.*; choose one of offset"):
        assign_labels(scores([[0.1]], [0.0]), (1, 1), "min")
    with pytest.raises(ValueError, match="no class and no background"):
        assign_labels(ScoreMaps((), torch.zeros(0, 2, 2), torch.zeros(2, 2)), (2, 2), None)
