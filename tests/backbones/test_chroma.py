"""Chroma alone."""

import tiny
import torch
from backbones.stock import HEIGHT, WIDTH, assert_same_as_stock
from backbones.test_families import record
from diffusers import ChromaPipeline
from torch import Tensor

from goca.backbones.chroma import ChromaBackbone


def backbone() -> ChromaBackbone:
    return ChromaBackbone(tiny.chroma.build(), "single_transformer_blocks.0")


def pack(latents: Tensor) -> Tensor:
    return ChromaPipeline._pack_latents(latents, *latents.shape)


def unpack(tokens: Tensor) -> Tensor:
    return ChromaPipeline._unpack_latents(tokens, HEIGHT, WIDTH, vae_scale_factor=2)


def test_denoiser_is_told_what_the_pipeline_tells_it() -> None:
    (call,) = assert_same_as_stock(backbone(), ["cat, grass", "a dog"], pack=pack, unpack=unpack)
    pixels = HEIGHT * WIDTH // 4**2
    assert call["attention_mask"].shape == (2, 16 + pixels)
    assert call["attention_mask"].sum(dim=1).tolist() == [5 + pixels, 4 + pixels]  # one token of padding stays


def test_padding_is_weighed_down_for_the_image_alone() -> None:
    """The mask is a number that is added to the scores of text and image alike; the record's is relative to the
    image's."""
    for layer in record(backbone(), ["cat", "dog"], [3, 4]).records.values():
        torch.testing.assert_close(layer.cross_mask, torch.tensor([0.0] * 3 + [-1.0] * 13))
