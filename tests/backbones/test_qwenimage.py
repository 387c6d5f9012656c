"""Qwen-Image alone."""

from __future__ import annotations

import pytest
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import images, record
from diffusers import QwenImagePipeline
from tiny import qwenimage

from goca.backbones.qwenimage import QwenImageBackbone
from goca.text.prompt import build_prompt


@pytest.fixture
def backbone() -> QwenImageBackbone:
    return QwenImageBackbone(qwenimage.build(), "transformer_blocks.1")


def pack(latents: torch.Tensor) -> torch.Tensor:
    return QwenImagePipeline._pack_latents(latents, *latents.shape)


def unpack(tokens: torch.Tensor) -> torch.Tensor:
    return QwenImagePipeline._unpack_latents(tokens, 16, 24, vae_scale_factor=1)[:, :, 0]


def test_denoiser_is_called_as_the_pipeline_calls_it(backbone):
    texts = ["cat", "dog, palm tree"]
    given = assert_same_as_stock(backbone, texts, pack=pack, unpack=unpack, guidance_scale=None)[0]
    assert given["img_shapes"] == [[(1, 8, 12)], [(1, 8, 12)]]
    assert given["encoder_hidden_states_mask"].sum(1).tolist() == [
        len(backbone.tokenizer.tokenize(f"{text}<|im_end|>\n<|im_start|>assistant\n")) for text in texts
    ]


def test_texts_of_one_length_need_no_mask(backbone):
    given = assert_same_as_stock(backbone, ["cat", "dog"], pack=pack, unpack=unpack, guidance_scale=None)[0]
    assert "encoder_hidden_states_mask" not in given


def test_latents_are_decoded_as_the_pipeline_decodes_its_own(backbone):
    vae = backbone.pipeline.vae
    latents, mode = backbone.encode_image(images(1)), vae.encode(images(1)[:, :, None]).latent_dist.mode()
    mean, deviation = (torch.tensor(vae.config[f"latents_{name}"]).view(1, 4, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(latents * deviation + mean, mode[:, :, 0])


def test_shorter_texts_have_no_tokens_of_the_padding(backbone):
    recording = record(backbone, ["cat, palm tree, grass", "dog"], [3, 4])
    first, second = (recording.records[image, "transformer_blocks.1"] for image in (0, 1))
    assert first.cross_key.shape[1] - second.cross_key.shape[1] == 5  # commas and words
    assert first.cross_mask is None and second.cross_mask is None


def test_words_of_the_system_message_are_not_the_texts(backbone):
    prompt = build_prompt(["image", "the user"], backbone.token_spans, max_length=backbone.max_tokens)
    assert [concept.tokens for concept in prompt.classes] == [(0,), (3,)]  # without the article
    assert prompt.text == "image, the user" and prompt.content_tokens == (0, 3)


def test_words_beyond_the_limit_are_refused(backbone):
    def find(letters: int):
        caption = f"cat {'z' * letters} palm"
        return build_prompt(["palm"], backbone.token_spans, caption=caption, max_length=backbone.max_tokens)

    prompt = find(509)
    assert prompt.classes[0].tokens == (511,)
    assert backbone.encode_prompt([prompt.text]).embeddings.shape[1] == 512
    with pytest.raises(ValueError, match="'palm' lies beyond the text encoder's limit of 512 tokens"):
        find(510)
