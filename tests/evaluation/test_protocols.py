"""The two protocols, as section by section of the paper's and the benchmarks' rules."""

from __future__ import annotations

import pytest
from toy import Toy

from goca.evaluation.protocols import adapt_to, find_protocol
from goca.method import PRESETS, Method


@pytest.mark.parametrize(
    ("dataset", "split", "limit", "missing", "background", "void"),
    [
        ("voc", "train", 3_000, True, True, True),
        ("context", "segmentation-train", 3_000, True, False, True),
        ("coco-stuff", None, 10_000, True, False, False),
        ("coco-object", None, 10_000, False, True, True),
        ("ade20k", None, 3_000, False, True, True),
        ("cityscapes", None, 1_000, False, False, True),
    ],
)
def test_paper(dataset: str, split: str | None, limit: int, missing: bool, background: bool, void: bool) -> None:
    protocol = find_protocol("paper", dataset)
    assert (protocol.split, protocol.limit) == (split, limit)
    assert (protocol.append_missing, protocol.append_background) == (missing, background)
    assert protocol.class_oracle and protocol.as_published and protocol.void_is_background == void
    assert protocol.thresholds == (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)


def test_standard_does_not_look_at_the_truth() -> None:
    protocol = find_protocol("standard", "voc")
    assert not (protocol.class_oracle or protocol.append_missing or protocol.void_is_background or protocol.thresholds)
    assert protocol.thresholds_for(PRESETS["paper"]) == (0.0,)
    assert protocol.thresholds_for(PRESETS["plus"]) == (0.3,)
    assert protocol.thresholds_for(Method(threshold=0.2)) == (0.2,)


@pytest.mark.parametrize("name", ["paper", "standard"])
def test_a_named_threshold_replaces_the_protocols_own(name: str) -> None:
    assert find_protocol(name, "voc", 0.1).thresholds_for(PRESETS["plus"]) == (0.1,)


def test_without_a_background_there_is_no_threshold_and_void_never_counts() -> None:
    toy = Toy(background=False)
    for name in ("paper", "standard"):
        settled = adapt_to(find_protocol(name, "ade20k"), toy)
        assert settled.thresholds_for(PRESETS["paper"]) == ()
        assert not settled.void_is_background
        assert settled.append_background == (name == "paper")  # the phrase still competes for the words' shares
    with pytest.raises(ValueError, match="toy has no background and so no threshold; leave --threshold out"):
        adapt_to(find_protocol("paper", "ade20k", 0.1), toy)
    assert adapt_to(find_protocol("paper", "voc"), Toy()) == find_protocol("paper", "voc")


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="unknown protocol 'mine'; choose one of paper, standard"):
        find_protocol("mine", "voc")
