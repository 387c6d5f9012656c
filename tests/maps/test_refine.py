"""Refinement of score maps; the operator itself is tested with the stream that builds it."""

from __future__ import annotations

import reference
import torch

from goca.maps.refine import MeanMap, Refiner, refine
from goca.types import ScoreMaps


def matrix():
    return torch.softmax(torch.randn(12, 12, generator=torch.Generator().manual_seed(2)) * 3, dim=-1)


def test_refine_equals_the_reference_and_leaves_an_empty_background_out():
    refiner = Refiner((3, 4), 1, (MeanMap((3, 4), None, False, matrix()),))
    for background in (torch.rand(3, 4), torch.zeros(3, 4)):
        scores = ScoreMaps(("a", "b"), torch.rand(2, 3, 4), background)
        found = refine(scores, refiner, 2)
        both = torch.cat([scores.maps, background[None]]).double()
        expected = reference.refined(both, matrix().double(), 2)
        torch.testing.assert_close(
            torch.cat([found.maps, found.background[None]]).double(), expected, atol=1e-5, rtol=0
        )


def test_order_zero_or_no_refiner_changes_nothing():
    scores = ScoreMaps(("a",), torch.rand(1, 3, 4), torch.zeros(3, 4))
    assert refine(scores, None, 2) is scores
    assert refine(scores, Refiner((3, 4), 1, ()), 0) is scores
