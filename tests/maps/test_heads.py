"""Head aggregation: closed forms against heads written out one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference
import torch
from records import random_records

from goca.maps import HEAD_RULES, aggregate_heads, attention
from goca.maps.heads import head_weights
from goca.types import OutputProjection


@pytest.mark.parametrize("rule", sorted(HEAD_RULES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rules_equal_the_heads_written_out(rule, dtype):
    (record,) = random_records([(3, 5)], heads=4, dtype=dtype, masked=2)
    expected = reference.head_maps(record, reference.attention(record, torch.float64)[0], rule)
    found = aggregate_heads(record, rule)
    assert found.dtype == torch.float32
    # cosine weights may nearly cancel: the tolerance is relative to the map's size
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("rule", sorted(HEAD_RULES))
@pytest.mark.parametrize("bias", [False, True])
def test_a_module_in_place_of_the_weight_gives_the_same(rule, bias):
    (record,) = random_records([(4, 4)], heads=3)
    linear = torch.nn.Linear(24, 24, bias=bias)
    with torch.inference_mode():
        plain = aggregate_heads(replace(record, projection=OutputProjection(linear.weight)), rule)
        through = aggregate_heads(replace(record, projection=OutputProjection(None, linear)), rule)
    torch.testing.assert_close(through, plain, atol=2e-4, rtol=1e-3)


def test_blocks_of_pixels_change_nothing(monkeypatch):
    (record,) = random_records([(5, 7)])
    whole = aggregate_heads(record)
    monkeypatch.setattr(attention, "BLOCK_SCORES_CPU", 50)
    torch.testing.assert_close(aggregate_heads(record), whole)


@pytest.mark.parametrize("block", [50, 2**17])
def test_pairs_are_exact_where_neighbouring_pixels_are_alike(monkeypatch, block):
    monkeypatch.setattr(attention, "BLOCK_SCORES_CPU", block)
    (record,) = random_records([(5, 8)])
    record = replace(record, cross_query=record.cross_query[:, ::2].repeat_interleave(2, dim=1))
    torch.testing.assert_close(aggregate_heads(record, paired=True), aggregate_heads(record))
    other = random_records([(5, 8)], seed=3)[0]
    assert not torch.allclose(aggregate_heads(other, paired=True), aggregate_heads(other), atol=1e-3)


def test_heads_are_averaged_without_values_and_where_the_output_vanishes():
    (record,) = random_records([(4, 4)])
    average = aggregate_heads(record, "average")
    assert torch.equal(aggregate_heads(replace(record, cross_value=None)), average)
    silent = OutputProjection(torch.zeros(16, 16))
    torch.testing.assert_close(aggregate_heads(replace(record, projection=silent)), average)


def test_scale_and_mask_are_used():
    (record,) = random_records([(4, 4)], masked=3)
    assert aggregate_heads(record, "average")[:, -3:].max() < 1e-6
    flat = aggregate_heads(replace(record, cross_scale=0.0), "average")[:, :-3]
    torch.testing.assert_close(flat, torch.full_like(flat, 1 / 4))


def test_a_projection_without_anything_is_refused():
    (record,) = random_records([(4, 4)])
    with pytest.raises(ValueError, match="needs a weight or a forward function"):
        aggregate_heads(replace(record, projection=OutputProjection(None)))


def entropies(probabilities):
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=-1)


@pytest.mark.parametrize("masked", [0, 3])
def test_a_rule_of_your_own_may_read_the_probabilities(monkeypatch, masked):
    """Heads that look at few words count more: weight 1 / entropy."""
    monkeypatch.setitem(HEAD_RULES, "entropy", lambda heads: 1 / entropies(heads.probabilities))
    (record,) = random_records([(3, 5)], heads=4, masked=masked)
    cross = reference.attention(record, torch.float64)[0]
    weights = 1 / entropies(cross)
    weights = weights / weights.sum(dim=0)
    torch.testing.assert_close(head_weights(record, "entropy").double(), weights, atol=1e-5, rtol=0)
    expected = (weights[..., None] * cross).sum(dim=0)
    torch.testing.assert_close(aggregate_heads(record, "entropy").double(), expected, atol=1e-5, rtol=0)


def test_a_rule_that_gives_another_shape_is_refused(monkeypatch):
    monkeypatch.setitem(HEAD_RULES, "whole", lambda heads: heads.outputs.sum(dim=(1, 2)))
    with pytest.raises(ValueError, match=r"head rule 'whole' gives weights of shape \(2,\); .* are \(2, 16\)"):
        aggregate_heads(random_records([(4, 4)])[0], "whole")


@pytest.mark.parametrize("rule", sorted(HEAD_RULES))
def test_weights_sum_to_one_and_give_the_map(rule):
    (record,) = random_records([(3, 5)], heads=4, masked=1)
    weights = head_weights(record, rule)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(15), atol=1e-4, rtol=0)
    maps = (weights[..., None] * reference.attention(record, torch.float32)[0]).sum(dim=0)
    found = aggregate_heads(record, rule)
    assert (maps - found).abs().max() <= 1e-4 * found.abs().max()
