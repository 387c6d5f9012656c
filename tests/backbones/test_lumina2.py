"""Lumina-Image 2.0 alone."""

from __future__ import annotations

import pytest
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import record
from tiny import lumina2

from goca.backbones.lumina2 import Lumina2Backbone
from goca.text.prompt import build_prompt


@pytest.fixture
def backbone() -> Lumina2Backbone:
    return Lumina2Backbone(lumina2.build(), "layers.1")


@pytest.mark.parametrize("timestep", [150, 1000])
def test_denoiser_is_called_as_the_pipeline_calls_it(backbone, timestep):
    given = assert_same_as_stock(backbone, ["cat", "dog, palm tree"], timestep=timestep)[0]
    assert given["encoder_attention_mask"].shape == (2, 256)
    time = backbone.noise_level(timestep, given["hidden_states"]).time
    torch.testing.assert_close(given["timestep"], torch.full((2,), 1 - time / 1000))


def test_each_image_has_the_tokens_of_its_own_text(backbone):
    texts = ["cat, palm tree, grass", "dog"]
    handed = []
    backbone.denoiser.layers[1].attn.register_forward_hook(lambda _m, _i, output: handed.append(output))
    recording = record(backbone, texts, [3, 4], height=40, width=24)
    prefix = f"{backbone.pipeline.system_prompt} <Prompt Start> "
    for image, text in enumerate(texts):
        layer, count = recording.records[image, "layers.1"], len(backbone.tokenizer(prefix + text)["input_ids"])
        assert layer.cross_key.shape[1] == count and layer.image_key.shape[1] == 60
        assert torch.equal(layer.reference, handed[0][image, count : count + 60])


def test_heads_that_share_a_key_have_one_each(backbone):
    layer = record(backbone, ["cat"], [3]).records[0, "layers.0"]
    assert layer.cross_query.shape[0] == layer.cross_key.shape[0] == 4
    assert torch.equal(layer.cross_key[0], layer.cross_key[1])
    assert not torch.equal(layer.cross_key[1], layer.cross_key[2])


def test_words_of_the_system_prompt_are_not_the_texts(backbone):
    prompt = build_prompt(["images", "palm tree"], backbone.token_spans, max_length=backbone.max_tokens)
    ids = backbone.tokenizer(f"{backbone.pipeline.system_prompt} <Prompt Start> {prompt.text}")["input_ids"]
    tokens = backbone.tokenizer.convert_ids_to_tokens(ids)
    assert ["".join(tokens[token] for token in each.tokens) for each in prompt.classes] == [
        "images",
        "\u2581palm\u2581tree",
    ]
    assert "".join(tokens[token] for token in prompt.content_tokens) == "images\u2581palm\u2581tree"


def test_the_system_prompt_counts_towards_the_limit(backbone):
    used = len(backbone.tokenizer(f"{backbone.pipeline.system_prompt} <Prompt Start> cat palm")["input_ids"])
    caption = f"cat{',' * (256 - used)} palm"
    assert build_prompt(["palm"], backbone.token_spans, caption=caption, max_length=256).classes[0].tokens == (255,)
    with pytest.raises(ValueError, match="'palm' lies beyond the text encoder's limit of 256 tokens"):
        build_prompt(["palm"], backbone.token_spans, caption=caption.replace("cat", "cat,"), max_length=256)
