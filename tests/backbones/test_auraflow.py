"""AuraFlow alone."""

import pytest
import tiny
from backbones.stock import assert_same_as_stock
from backbones.test_families import images, record
from tiny import parts

from goca.backbones.auraflow import AuraFlowBackbone
from goca.text.prompt import build_prompt


def backbone() -> AuraFlowBackbone:
    return AuraFlowBackbone(tiny.auraflow.build(), "single_transformer_blocks.0")


def test_denoiser_is_told_what_the_pipeline_tells_it() -> None:
    assert_same_as_stock(backbone(), ["cat, grass", "a dog"])


def test_words_come_after_the_registers() -> None:
    aura = backbone()
    prompt = build_prompt(["cat", "palm tree"], aura.token_spans, max_length=aura.max_tokens)
    assert prompt.classes[0].tokens == (8,)
    assert prompt.classes[1].tokens == (10, 11)
    for layer in record(aura, ["cat"], [3]).records.values():
        assert layer.cross_key.shape[1] == tiny.auraflow.REGISTERS + parts.TEXT_LENGTH


def test_image_size_is_the_pipelines_own_as_far_as_the_positions_reach() -> None:
    aura = backbone()
    assert aura.image_size == aura.longest_side == 24 * 4
    aura.denoiser.register_to_config(pos_embed_max_size=384**2)
    assert aura.image_size == 1024


def test_an_image_beyond_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="32 x 100 pixels; this model knows places up to 96 each way"):
        backbone().encode_image(images(3, height=32, width=100))
