"""Models at their true size with random weights, for measuring time and memory without a download."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from goca.models import LoadedModel, wrap
from goca.zoo.architectures import build_clip_tokenizer


def build_random(name: str) -> LoadedModel:
    """The model ``name`` at its true size; the weights are small random numbers, the words those of the scenes.

    Raises:
        ValueError: no configuration of that model is part of the package.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"no true-size configuration of {name!r} is packaged; random weights are offered for {', '.join(BUILDERS)}"
        )
    return wrap(name, BUILDERS[name]())


def _sd15() -> StableDiffusionPipeline:
    tokenizer = build_clip_tokenizer()
    tokenizer.model_max_length = 77
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        vocab_size=49408,
        **tokens,
    )
    return StableDiffusionPipeline(
        vae=randomised(
            lambda: AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=4,
                sample_size=512,
            )
        ),
        text_encoder=randomised(lambda: CLIPTextModel(text)),
        tokenizer=tokenizer,
        unet=randomised(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """Build without the costly standard initialisation; matrices get a standard deviation of 0.02, norms stay the
    identity."""
    torch.manual_seed(0)
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    for part in module.modules():
        norm = isinstance(part, (nn.GroupNorm, nn.LayerNorm))
        for name, parameter in part.named_parameters(recurse=False):
            if norm:
                nn.init.constant_(parameter, float(name == "weight"))
            else:
                nn.init.normal_(parameter, std=0.02)
        for name, buffer in part.named_buffers(recurse=False):
            if name == "position_ids":
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return module.eval().requires_grad_(False)


BUILDERS: dict[str, Callable[[], StableDiffusionPipeline]] = {"sd15": _sd15}
