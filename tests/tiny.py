"""Tiny pipelines of the true classes, with random weights that make every part of the text matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
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


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=32,
    )


def _sharpen(denoiser: nn.Module) -> None:
    """Give cross-attention some contrast: freshly initialised queries and keys attend almost evenly."""
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if ".attn" in name and ("to_q" in name or "to_k" in name):
                parameter.mul_(4)


def unet_pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """Three resolutions, attention on all of them; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
    )
    _sharpen(unet)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _ready(pipeline, unet)


def dit_pipeline(seed: int = 0, micro_conditions: bool = False) -> PixArtAlphaPipeline:
    """Three blocks over 8 x 8 patches; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=24,
        caption_channels=WIDTH,
        sample_size=16,
        patch_size=2,
        use_additional_conditions=micro_conditions,
    )
    _sharpen(transformer)
    text_encoder = T5EncoderModel(
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
    pipeline = PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=_vae(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )
    return _ready(pipeline, transformer)


def _ready(pipeline: Any, denoiser: nn.Module) -> Any:
    for part in (pipeline.vae, pipeline.text_encoder, denoiser):
        part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline to ``folder`` as the hub keeps them."""
    pipeline.save_pretrained(folder)
    return folder
