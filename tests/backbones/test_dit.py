"""PixArt alone."""

import tiny
import torch
from backbones.test_families import cross_map, record
from torch import nn

from goca.backbones.dit import DiTBackbone
from goca.backbones.projection import output_projection


def backbone(**options: bool) -> DiTBackbone:
    return DiTBackbone(tiny.dit.build(**options), "transformer_blocks.1")


def test_reference_features_are_the_query_of_cross_attention():
    layer = record(backbone(), ["cat"], [3]).records[0, "transformer_blocks.1"]
    torch.testing.assert_close(layer.reference, layer.cross_query.transpose(0, 1).flatten(1), atol=0, rtol=0)


def test_self_attention_is_that_of_the_same_block():
    dit, seen = backbone(), []
    dit.denoiser.transformer_blocks[2].attn1.to_q.register_forward_hook(lambda _m, _i, out: seen.append(out))
    layer = record(dit, ["cat"], [3]).records[0, "transformer_blocks.2"]
    assert torch.equal(layer.self_query.transpose(0, 1).flatten(1), seen[0][0])


def test_masked_tokens_get_no_attention():
    assert cross_map(record(backbone(), ["cat"], [3]).records[0, "transformer_blocks.0"])[..., 2:].max() == 0


def test_prompts_are_encoded_as_the_pipeline_does():
    dit, texts = backbone(), ["cat", "a dog, grass"]
    ids = dit.tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    conditioning = dit.encode_prompt(texts)
    expected = dit.pipeline.text_encoder(ids.input_ids, attention_mask=ids.attention_mask)[0]
    torch.testing.assert_close(conditioning.embeddings, expected)
    assert torch.equal(conditioning.mask, ids.attention_mask)


def test_projection_of_another_class_is_used_through_its_forward():
    class WithAdapter(nn.Linear):
        pass

    attention = backbone().denoiser.transformer_blocks[0].attn2
    assert output_projection(attention).weight is not None
    attention.to_out[0] = WithAdapter(24, 24)
    assert output_projection(attention).weight is None
    assert output_projection(attention).forward is attention.to_out[0]


def test_micro_conditions_are_pixels_and_ratio_where_the_model_wants_them():
    dit, seen = backbone(micro_conditions=True), []
    dit.denoiser.adaln_single.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[1]))
    record(dit, ["cat", "dog"], [3, 4], height=32, width=64)
    assert seen[0]["resolution"].tolist() == [[32, 64], [32, 64]]
    assert seen[0]["aspect_ratio"].tolist() == [[0.5], [0.5]]
