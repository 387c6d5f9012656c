"""Stable Diffusion 3 alone."""

import pytest
import tiny
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import record
from tiny import parts

from goca.backbones.sd3 import T5_LENGTH, SD3Backbone
from goca.text.prompt import build_prompt

TEXTS = ["cat, grass", "a dog"]


def backbone(**options: bool) -> SD3Backbone:
    return SD3Backbone(tiny.sd3.build(**options), "transformer_blocks.1")


@pytest.mark.parametrize("options", [{}, {"t5": False}, {"dynamic_shift": True}], ids=str)
def test_denoiser_is_told_what_the_pipeline_tells_it(options: dict[str, bool]) -> None:
    sd3 = backbone(**options)
    (call,) = assert_same_as_stock(sd3, TEXTS, max_sequence_length=sd3.t5_tokens)
    assert call["encoder_hidden_states"].shape[1] == parts.TEXT_LENGTH + (T5_LENGTH if "t5" in options else 16)


def test_words_have_tokens_of_clip_and_of_t5() -> None:
    prompt = build_prompt(["cat", "palm tree"], backbone().token_spans, max_length=16)
    assert prompt.classes[0].tokens == (1, 16)
    assert prompt.classes[1].tokens == (3, 4, 18, 19)


def test_words_beyond_clip_keep_their_tokens_of_t5() -> None:
    sd3 = backbone()
    sd3.pipeline.tokenizer_3.model_max_length = 40
    prompt = build_prompt(["cat", "dog"], sd3.token_spans, caption="cat" + " tree" * 16 + " dog", max_length=40)
    assert prompt.classes[0].tokens == (1, 16)
    assert prompt.classes[1].tokens == (16 + 17,)


def test_without_t5_only_clip_has_words() -> None:
    sd3 = backbone(t5=False)
    assert sd3.max_tokens == parts.TEXT_LENGTH
    assert build_prompt(["cat"], sd3.token_spans, max_length=sd3.max_tokens).classes[0].tokens == (1,)
    conditioning = sd3.encode_prompt(TEXTS)
    assert not conditioning.embeddings[:, parts.TEXT_LENGTH :].any()
    assert record(sd3, ["cat"], [3]).records[0, "transformer_blocks.0"].cross_key.shape[1] == 16 + T5_LENGTH


def test_second_attention_of_the_image_to_itself_is_left_out() -> None:
    sd3 = backbone()
    block = sd3.denoiser.transformer_blocks[0]
    assert block.attn2 is not None
    keys: list[torch.Tensor] = []
    block.attn.to_k.register_forward_hook(lambda _module, _inputs, output: keys.append(output))
    layer = record(sd3, ["cat"], [3]).records[0, "transformer_blocks.0"]
    expected = block.attn.norm_k(keys[0].unflatten(2, (2, 16)).transpose(1, 2))[0]
    assert torch.equal(layer.image_key, expected)


def test_clip_encoders_stand_side_by_side() -> None:
    sd3 = backbone()
    conditioning = sd3.encode_prompt(["cat"])
    ids = sd3.tokenizer("cat", padding="max_length", max_length=16, return_tensors="pt").input_ids
    encoders = (sd3.pipeline.text_encoder, sd3.pipeline.text_encoder_2)
    states = [each(ids, output_hidden_states=True).hidden_states[-2] for each in encoders]
    torch.testing.assert_close(conditioning.embeddings[:, :16], torch.cat(states, dim=-1))
