"""Z-Image alone."""

from __future__ import annotations

import pytest
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import record
from tiny import zimage

from goca.backbones.zimage import ZImageBackbone
from goca.text.prompt import build_prompt


@pytest.fixture
def backbone() -> ZImageBackbone:
    return ZImageBackbone(zimage.build(), "layers.1")


@pytest.mark.parametrize("timestep", [150, 1000])
def test_denoiser_is_called_as_the_pipeline_calls_it(backbone, timestep):
    texts = ["cat", "dog, palm tree, grass, zebra, engine"]
    given = assert_same_as_stock(backbone, texts, timestep=timestep, guidance_scale=0.0)[0]
    assert [each.shape for each in given["x"]] == [(4, 1, 16, 24)] * 2
    assert given["cap_feats"][0].shape[0] < 32 < given["cap_feats"][1].shape[0]


def test_tokens_that_fill_up_the_image_come_last(backbone):
    seen = []
    backbone.denoiser.layers[1].attention.register_forward_pre_hook(
        lambda _m, inputs: seen.append(inputs[0]), prepend=True
    )
    recording = record(backbone, ["cat"], [3], height=40, width=24)  # 60 patches and 4 more
    layer = recording.records[0, "layers.1"]
    assert layer.cross_query.shape[1] == layer.image_key.shape[1] == 60 and seen[0].shape[1] == 96
    keys = backbone.denoiser.layers[1].attention.to_k(seen[0])[0].unflatten(-1, (2, 16)).transpose(0, 1)
    norm = backbone.denoiser.layers[1].attention.norm_k(keys).norm(dim=-1)  # rotation leaves it as it is
    torch.testing.assert_close(layer.cross_key.norm(dim=-1), norm[:, [*range(64, 96), *range(60, 64)]])


def test_images_with_shorter_texts_have_fewer_tokens(backbone):
    texts = ["cat", "dog, palm tree, grass, zebra, engine"]
    recording = record(backbone, texts, [3, 4])
    assert [recording.records[image, "layers.0"].cross_key.shape[1] for image in (0, 1)] == [32, 64]


def test_features_are_those_of_the_images_own_tokens(backbone):
    handed = []
    backbone.denoiser.layers[1].attention.register_forward_hook(lambda _m, _i, output: handed.append(output))
    recording = record(backbone, ["cat", "dog, palm tree, grass, zebra, engine"], [3, 4], height=40, width=24)
    for image in (0, 1):
        assert torch.equal(recording.records[image, "layers.1"].reference, handed[0][image, :60])


def test_words_of_the_template_are_not_the_texts(backbone):
    prompt = build_prompt(["user", "palm tree"], backbone.token_spans, max_length=backbone.max_tokens)
    ids = backbone.tokenizer(f"<|im_start|>user\n{prompt.text}")["input_ids"]
    assert [backbone.tokenizer.decode([ids[token] for token in each.tokens]) for each in prompt.classes] == [
        "user",
        " palm tree",
    ]
    assert prompt.classes[0].tokens == (3,)
