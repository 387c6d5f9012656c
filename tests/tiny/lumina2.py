"""Lumina-Image 2.0, tiny."""

import string

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> Lumina2Pipeline:
    """Four joint blocks over 8 x 8 patches, after one block for each kind of tokens; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = gemma_tokenizer()
    transformer = Lumina2Transformer2DModel(
        sample_size=16,
        in_channels=4,
        hidden_size=64,
        num_layers=4,
        num_refiner_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        cap_feat_dim=parts.WIDTH,
    )
    with torch.no_grad():
        transformer.context_refiner[0].norm2.weight.mul_(0.1)  # words stay what they are
    pipeline = Lumina2Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=parts.vae(),
        text_encoder=gemma(tokenizer),
        tokenizer=tokenizer,
    )
    return parts.ready(pipeline)


def gemma_tokenizer() -> GemmaTokenizer:
    """Letters, and words after a space as one token together with it, "\u2581cat"."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *string.ascii_letters, *string.punctuation]
    merges = parts.merge_letters(tokens, (["\u2581", *word] for word in parts.WORDS))
    return GemmaTokenizer(vocab=parts.numbered(tokens), merges=merges, add_bos_token=True)


def gemma(tokenizer: GemmaTokenizer) -> Gemma2Model:
    """A Gemma 2 language model of width 16."""
    return Gemma2Model(Gemma2Config(**parts.language_sizes(tokenizer, layers=2)))
