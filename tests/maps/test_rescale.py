"""Rescaling rules against the literal reference, and their edge cases."""

from __future__ import annotations

import pytest
import reference
import torch

from goca.maps.rescale import RESCALE_RULES, blur, min_max, rescale
from goca.types import Concept, Prompt

OBJECTS, BACKGROUND, CONTENT = ((1,), (2, 3)), ((4,), (5, 6)), (1, 2, 3, 4, 5, 6)


def prompt(objects=OBJECTS, background=BACKGROUND, content=CONTENT):
    concepts = [tuple(Concept(str(ids), (), ids) for ids in group) for group in (objects, background)]
    return Prompt("", *concepts, content)


def token_maps():
    maps = torch.rand(8, 6, 9, generator=torch.Generator().manual_seed(1))
    return maps / maps.sum(dim=0)


@pytest.mark.parametrize("rule", sorted(RESCALE_RULES))
@pytest.mark.parametrize("background", [BACKGROUND, ()])
def test_rules_equal_the_reference(rule, background):
    found = rescale(token_maps(), prompt(background=background), rule)
    expected = reference.rescaled(token_maps().double(), OBJECTS, background, CONTENT, rule)
    torch.testing.assert_close(torch.cat([found.maps, found.background[None]]).double(), expected, atol=1e-5, rtol=0)
    assert found.classes == tuple(map(str, OBJECTS))


def test_all_published_rules_are_there():
    assert len(RESCALE_RULES) == 9


def test_constant_maps_become_zero_instead_of_nan():
    assert torch.equal(min_max(torch.full((2, 3, 3), 0.7)), torch.zeros(2, 3, 3))


def test_blur_keeps_a_constant_map():
    torch.testing.assert_close(blur(torch.full((1, 5, 4), 0.3)), torch.full((1, 5, 4), 0.3))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objects": ()}, "names no class"),
        ({"objects": ((8,),)}, "shorten the prompt"),
        ({"objects": ((),)}, "shorten the prompt"),
        ({"content": ()}, "no content token"),
    ],
)
def test_prompts_that_cannot_work_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        rescale(token_maps(), prompt(**changed), "sum-1 rescaling")


def test_unknown_rule_and_small_maps():
    with pytest.raises(ValueError, match="unknown rescaling rule 'x'; choose one of raw"):
        rescale(token_maps(), prompt(), "x")
    with pytest.raises(ValueError, match="too small to blur"):
        blur(torch.rand(1, 2, 5))
