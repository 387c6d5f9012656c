"""What tiny pipelines are made of: tokenizers over a few words, text encoders and a VAE with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

TEXT_LENGTH = 16
WIDTH = 16
WORDS = ("cat", "dog", "car", "palm", "tree", "grass", "sky", "fire", "a", "the", "and", "background")
"""Whole-word tokens; any other word falls into letters, except that "carpet" starts with the token of "car"."""


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokenizer over letters and :data:`WORDS`."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,.-"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in ("car-", *WORDS):
        stem, ending = word.rstrip("-"), "" if word.endswith("-") else "</w>"
        left = stem[0]
        for place, letter in enumerate(stem[1:], start=1):
            right = letter + (ending if place == len(stem) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in tokens:
                tokens.append(left)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def t5_tokenizer() -> T5Tokenizer:
    """Unigram tokenizer over letters and :data:`WORDS`."""
    words = [(f"\u2581{word}", -3.0) for word in WORDS]
    letters = [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyz,.-"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters, *words]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TEXT_LENGTH)


def clip_encoder(tokenizer: CLIPTokenizer, kind: type = CLIPTextModel, layers: int = 1) -> Any:
    """A CLIP text encoder of width :data:`WIDTH`; ``kind`` may be the class with a projection."""
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            projection_dim=WIDTH,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """A T5 encoder of width :data:`WIDTH`."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def vae(channels: int = 4) -> AutoencoderKL:
    """Stride 2, so that images of 32 pixels are latents of 16."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=32,
    )


def sharpen(denoiser: nn.Module, factor: float = 4.0) -> None:
    """Give cross-attention some contrast: freshly initialised queries and keys attend almost evenly."""
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if ".attn" in name and ("to_q" in name or "to_k" in name):
                parameter.mul_(factor)


def ready(pipeline: Any) -> Any:
    """Frozen, silent, in evaluation mode."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline to ``folder`` as the hub keeps them."""
    pipeline.save_pretrained(folder)
    return folder
