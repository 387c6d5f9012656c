"""The streaming engine against the literal reference, on random shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from records import random_records

from goca.maps import HEAD_RULES, LAYER_RULES, MapAggregator, aggregate, attention, plan
from goca.maps.refine import FusedMap, MeanMap
from goca.types import JointRecord

PAPER = ("dot-product w/o clamp", "dot-product similarity")


def stream(records, size, rules=PAPER, refine_layers=(), order=0, at=1, fast=False, ahead=False):
    names, known = [r.name for r in records], records[at].grid if ahead else None
    aggregator = MapAggregator(*rules, size, names, f"layer{at}", refine_layers, order, fast, known)
    for record in records:
        aggregator.add(record)
    return aggregator.finish()


def literal(records, size, rules=PAPER, refine_layers=(), at=1):
    return reference.aggregate(records, *rules, size, f"layer{at}", refine_layers)


def assert_equal(found, expected, tolerance=2e-5):
    assert found.weights == pytest.approx(expected.weights, rel=1e-4)
    torch.testing.assert_close(found.token_maps.double(), expected.token_maps, atol=tolerance, rtol=0)


def assert_same_refinement(found, expected, size, order, tolerance=1e-4):
    maps = torch.rand(3, *size, generator=torch.Generator().manual_seed(5))
    wanted = maps.double().flatten(1).T
    for _ in range(order):
        maps, wanted = found.refiner(maps), expected.refiner @ wanted
    torch.testing.assert_close(maps.flatten(1).T.double(), wanted, atol=tolerance, rtol=tolerance)


grids = st.tuples(st.integers(2, 7), st.integers(2, 7))


@settings(max_examples=25, deadline=None)
@given(
    layers=st.lists(grids, min_size=2, max_size=4),
    size=grids,
    heads=st.sampled_from(["average", "l2-norm", "dot-product w/o clamp"]),
    rule=st.sampled_from(sorted(LAYER_RULES)),
    order=st.integers(1, 6),
    at=st.integers(0, 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    joint=st.booleans(),
    masked=st.integers(0, 2),
    ahead=st.booleans(),
    seed=st.integers(0, 99),
)
def test_streaming_equals_the_literal_method(layers, size, heads, rule, order, at, dtype, joint, masked, ahead, seed):
    records = random_records(layers, seed, dtype=dtype, joint=joint, masked=masked)
    rules, refine_layers = (heads, rule), tuple(r.name for r in records[::2])
    found = stream(records, size, rules, refine_layers, order, at, ahead=ahead)
    expected = literal(records, size, rules, refine_layers, at)
    assert_equal(found, expected)
    assert_same_refinement(found, expected, size, 1)


@pytest.mark.parametrize("rule", ["dot-product similarity", "mse", "iou-like"])
def test_small_blocks_change_nothing(monkeypatch, rule):
    records = random_records([(6, 4), (3, 5), (4, 4), (8, 10)])
    expected = literal(records, (5, 6), (PAPER[0], rule), ("layer0", "layer3"))
    monkeypatch.setattr(attention, "BLOCK_SCORES_CPU", 100)
    found = stream(records, (5, 6), (PAPER[0], rule), ("layer0", "layer3"), 9)
    assert_equal(found, expected)
    assert_same_refinement(found, expected, (5, 6), 1)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("side", "dim", "kept"), [(4, 8, "rows"), (8, 8, "queries and keys")])
@pytest.mark.parametrize("rule", ["dot-product similarity", "mse", "iou-like"])
def test_layers_before_the_reference_layer_keep_the_smaller_of_both(rule, side, dim, kept, joint):
    """Of a grid of n pixels, n x n numbers are compared; queries and keys have 2 x n x heads x dim."""
    records = random_records([(side, side), (6, 4), (side, side)], heads=2, dim=dim, joint=joint)
    rules, size = (PAPER[0], rule), (side, side)
    aggregator = MapAggregator(*rules, size, [r.name for r in records], "layer2", reference_grid=size)
    aggregator.add(records[0])
    ((layer, rows),) = aggregator._waiting
    assert (rows is None, layer.attention is None) == ((False, True) if kept == "rows" else (True, False))
    for record in records[1:]:
        aggregator.add(record)
    assert_equal(aggregator.finish(), literal(records, size, rules, at=2))


def test_a_reference_grid_other_than_announced_is_refused():
    records = random_records([(4, 4)])
    aggregator = MapAggregator(*PAPER, (4, 4), ["layer0"], "layer0", reference_grid=(2, 2))
    with pytest.raises(ValueError, match=r"layer 'layer0' has a grid of \(4, 4\), but \(2, 2\) was announced"):
        aggregator.add(records[0])


@pytest.fixture
def computed(monkeypatch):
    """Shapes of all blocks of rows of self-attention, as they are computed."""
    shapes = []
    rows_of = attention.Attention.mean_rows

    def counting(self, rows, others=None):
        block = rows_of(self, rows, others)
        shapes.append(tuple(block.shape))
        return block

    monkeypatch.setattr(attention.Attention, "mean_rows", counting)
    return shapes


def test_rows_skipped_by_nearest_downsampling_are_not_computed(computed):
    records = random_records([(8, 12), (4, 6)])
    assert_equal(stream(records, (8, 12)), literal(records, (8, 12)))
    assert sorted(computed) == [(24, 24), (24, 96)]


@pytest.mark.parametrize(("rule", "times"), [("average", 1), (PAPER[0], 1), ("average", 2), (PAPER[0], 2)])
def test_one_softmax_serves_the_words_and_the_layer_weight_in_joint_attention(monkeypatch, computed, rule, times):
    """Joint attention has both in the same rows; rows that downsampling skips are then computed for the words."""
    monkeypatch.setattr(attention.Attention, "probabilities", lambda *_: pytest.fail("a second softmax"))
    records = random_records([(8, 12), (8 // times, 12 // times)], joint=True, masked=1)
    found = stream(records, (8, 12), (rule, PAPER[1]))
    assert_equal(found, literal(records, (8, 12), (rule, PAPER[1])))
    assert computed == [(96, 96), (96 // times**2, 96 // times**2)]


@pytest.mark.parametrize("order", [0, 2])
@pytest.mark.parametrize("rules", [("l2-norm", PAPER[1]), ("dot-product + VW", "mse"), (PAPER[0], "vanilla")])
def test_heads_of_joint_attention_are_weighed_where_there_are_values(monkeypatch, rules, order):
    """The first block has values and a projection, as FLUX's double ones have; the second has none."""
    monkeypatch.setattr(attention, "BLOCK_SCORES_CPU", 100)
    double, single = random_records([(6, 8), (3, 4)], joint=True, masked=2)
    records = [double, replace(single, cross_value=None, projection=None)]
    found = stream(records, (6, 8), rules, ("layer0",), order)
    expected = literal(records, (6, 8), rules, ("layer0",))
    assert_equal(found, expected)
    averaged = literal(records, (6, 8), ("average", rules[1]), ("layer0",))
    assert (found.token_maps - averaged.token_maps).abs().max() > 1e-3
    if order:
        assert_same_refinement(found, expected, (6, 8), order)


def test_a_head_rule_may_read_the_probabilities_of_joint_attention(monkeypatch):
    monkeypatch.setitem(HEAD_RULES, "peak", lambda heads: heads.probabilities.amax(dim=-1))
    records = random_records([(4, 6)], joint=True, masked=1)
    cross = reference.attention(records[0], torch.float64)[0]
    weights = cross.amax(dim=-1)
    expected = ((weights / weights.sum(dim=0))[..., None] * cross).sum(dim=0)
    expected = expected / expected.sum(dim=1, keepdim=True)
    found = stream(records, (4, 6), ("peak", PAPER[1]), at=0).token_maps
    torch.testing.assert_close(found.flatten(1).T.double(), expected, atol=2e-5, rtol=0)


def test_fused_refinement_where_it_is_cheaper_and_mean_map_where_rows_are_there_anyway():
    records = random_records([(8, 8), (2, 2), (8, 8)])
    layers = ("layer0", "layer1", "layer2")
    for order, kinds in ((1, {MeanMap, FusedMap}), (2, {MeanMap})):
        found = stream(records, (8, 8), refine_layers=layers, order=order)
        assert {type(part) for part in found.refiner.maps} == kinds
        assert_same_refinement(found, literal(records, (8, 8), refine_layers=layers), (8, 8), order, 1e-3)


def equal_neighbours(record):
    """The record with every second image key equal to the one before it."""
    name = "image_key" if isinstance(record, JointRecord) else "self_key"
    key = getattr(record, name).clone()
    key[:, 1::2] = key[:, ::2]
    return replace(record, **{name: key})


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("joint", "masked"), [(False, 0), (True, 0), (True, 2)])
def test_the_fast_refinement_is_exact_where_neighbouring_keys_are_equal(monkeypatch, joint, masked, order):
    monkeypatch.setattr(aggregate, "PAIRED_PIXELS", 48)
    records = [equal_neighbours(each) for each in random_records([(6, 8), (5, 4), (3, 8)], joint=joint, masked=masked)]
    found = stream(records, (6, 8), refine_layers=("layer0", "layer1"), order=order, fast=True)
    assert_same_refinement(found, literal(records, (6, 8), refine_layers=("layer0", "layer1")), (6, 8), order)
    assert {(part.grid, part.paired) for part in found.refiner.maps} == {((6, 8), True), ((5, 4), False)}


@pytest.mark.parametrize("joint", [False, True])
def test_a_mean_map_beyond_the_memory_budget_is_never_formed(monkeypatch, joint):
    plan.plan_rows.cache_clear()
    records = random_records([(8, 8), (8, 8)], joint=joint)
    monkeypatch.setattr(plan, "MEAN_MAP_ENTRIES", 64 * 64 - 1)
    found = stream(records, (8, 8), refine_layers=("layer0", "layer1"), order=3)
    plan.plan_rows.cache_clear()
    assert {type(part) for part in found.refiner.maps} == {FusedMap}
    assert_same_refinement(found, literal(records, (8, 8), refine_layers=("layer0", "layer1")), (8, 8), 3)


def test_fused_refinement_takes_more_maps_than_a_head_is_wide():
    records = random_records([(8, 8), (2, 2)], dim=4)
    found = stream(records, (8, 8), refine_layers=("layer0",), order=1)
    assert isinstance(found.refiner.maps[0], FusedMap)
    maps = torch.rand(9, 8, 8)
    expected = literal(records, (8, 8), refine_layers=("layer0",)).refiner @ maps.double().flatten(1).T
    torch.testing.assert_close(found.refiner(maps).flatten(1).T.double(), expected, atol=1e-5, rtol=0)


def test_no_self_attention_is_touched_when_nothing_needs_it(monkeypatch):
    records = [replace(r, self_query=None, self_key=None) for r in random_records([(4, 4), (3, 5)])]
    monkeypatch.setattr(aggregate, "self_attention", lambda record: pytest.fail("self-attention was read"))
    found = stream(records, (4, 4), (PAPER[0], "vanilla"), ("layer0",), 0)
    assert found.refiner is None
    assert found.weights == {"layer0": 0.5, "layer1": 0.5}


def test_layers_outside_the_selection_are_ignored():
    records = random_records([(4, 4)] * 3)
    aggregator = MapAggregator(*PAPER, (4, 4), ["layer0"], "layer2", ["layer0"], 2)
    for record in records:
        aggregator.add(record)
    found = aggregator.finish()
    expected = reference.aggregate(records, *PAPER, (4, 4), "layer2", ("layer0",), cross_layers=("layer0",))
    assert_equal(found, expected)


def test_token_maps_sum_to_one_and_stay_positive():
    maps = stream(random_records([(4, 6), (2, 3)]), (4, 6)).token_maps
    torch.testing.assert_close(maps.sum(dim=0), torch.ones(4, 6))
    assert maps.min() >= 0


def test_what_is_missing_is_said():
    records = random_records([(4, 4), (4, 4)])
    aggregator = MapAggregator(*PAPER, (4, 4), ["layer0", "layer1"], "layer1")
    with pytest.raises(ValueError, match=r"2 expected attention layers were not recorded: layer0, layer1"):
        aggregator.finish()
    aggregator.add(records[0])
    with pytest.raises(ValueError, match="recorded twice"):
        aggregator.add(records[0])
    with pytest.raises(ValueError, match="no reference features"):
        aggregator.add(replace(records[1], reference=None))
    with pytest.raises(ValueError, match="has no self-attention map"):
        stream([replace(records[0], self_key=None), records[1]], (4, 4))
    with pytest.raises(ValueError, match="no grid of 3 x 4"):
        stream([replace(records[0], grid=(3, 4)), records[1]], (4, 4))
    with pytest.raises(ValueError, match="not finite"):
        stream([replace(records[0], cross_query=records[0].cross_query * torch.nan), records[1]], (4, 4))


def test_choices_are_checked_before_anything_runs():
    with pytest.raises(ValueError, match="unknown head rule 'best'; choose one of average"):
        MapAggregator("best", "vanilla", (4, 4), ["a"])
    with pytest.raises(ValueError, match="unknown layer rule 'best'; choose one of dot-product similarity"):
        MapAggregator("average", "best", (4, 4), ["a"])
    with pytest.raises(ValueError, match="needs a reference layer"):
        MapAggregator("average", "mse", (4, 4), ["a"])
    with pytest.raises(ValueError, match="no layer to aggregate"):
        MapAggregator("average", "vanilla", (4, 4), [])
