"""Models at their true size with random weights, for measuring time and memory without a download.

Two liberties, both of which make the plain forward cheaper and so the measured ratio stricter: T5 has one layer of
its 24, and FLUX.1 has 3 of its 19 double and 6 of its 38 single blocks, as many as 24 GiB hold in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from goca.embedded.architectures import build_clip_tokenizer, build_t5_tokenizer
from goca.models import LoadedModel, wrap

SD_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
T5_LAYERS = 1
FLUX_BLOCKS = (3, 6)


def build_random(name: str) -> LoadedModel:
    """The model ``name`` at its true size; the weights are small random numbers, the words those of the scenes.

    Raises:
        ValueError: no configuration of that model is part of the package.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"no true-size configuration of {name!r} is packaged; random weights are offered for {', '.join(BUILDERS)}"
        )
    pipeline = BUILDERS[name]()
    return wrap(f"{name} with {sum(FLUX_BLOCKS)} blocks" if name == "flux-dev" else name, pipeline)


def _sd15() -> StableDiffusionPipeline:
    tokenizer = _clip_tokenizer()
    return StableDiffusionPipeline(
        vae=_vae(512),
        text_encoder=_clip(tokenizer, 768, 12, 12),
        tokenizer=tokenizer,
        unet=randomised(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)),
        scheduler=DDIMScheduler(**SD_SCHEDULE, steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> StableDiffusionXLPipeline:
    tokenizer = _clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=_vae(1024),
        text_encoder=_clip(tokenizer, 768, 12, 12),
        text_encoder_2=_clip(tokenizer, 1280, 32, 20, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=randomised(
            lambda: UNet2DConditionModel(
                sample_size=128,
                block_out_channels=(320, 640, 1280),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=(5, 10, 20),
                cross_attention_dim=2048,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            )
        ),
        scheduler=EulerDiscreteScheduler(**SD_SCHEDULE),
    )


def _pixart_sigma() -> PixArtSigmaPipeline:
    tokenizer = build_t5_tokenizer(longest=300)
    return PixArtSigmaPipeline(
        vae=_vae(1024),
        text_encoder=_t5(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=randomised(
            lambda: PixArtTransformer2DModel(
                sample_size=128, out_channels=8, caption_channels=4096, use_additional_conditions=False
            )
        ),
        scheduler=DPMSolverMultistepScheduler(beta_schedule="linear"),
    )


def _flux() -> FluxPipeline:
    clip, t5 = _clip_tokenizer(), build_t5_tokenizer(longest=512)
    double, single = FLUX_BLOCKS
    return FluxPipeline(
        vae=_vae(1024, channels=16),
        text_encoder=_clip(clip, 768, 12, 12),
        tokenizer=clip,
        text_encoder_2=_t5(len(t5)),
        tokenizer_2=t5,
        transformer=randomised(
            lambda: FluxTransformer2DModel(num_layers=double, num_single_layers=single, guidance_embeds=True)
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )


def _clip_tokenizer() -> CLIPTokenizer:
    tokenizer = build_clip_tokenizer()
    tokenizer.model_max_length = 77
    return tokenizer


def _clip(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int, kind: Any = CLIPTextModel) -> nn.Module:
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        vocab_size=49408,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return randomised(lambda: kind(config))


def _t5(words: int) -> nn.Module:
    config = T5Config(
        vocab_size=words,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=T5_LAYERS,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    return randomised(lambda: T5EncoderModel(config))


def _vae(size: int, channels: int = 4) -> nn.Module:
    return randomised(
        lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=channels,
            sample_size=size,
        )
    )


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """Build without the costly standard initialisation; matrices get a standard deviation of 0.02, norms stay the
    identity."""
    torch.manual_seed(0)
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    for part in module.modules():
        norm = isinstance(part, (nn.GroupNorm, nn.LayerNorm)) or "Norm" in type(part).__name__
        for name, parameter in part.named_parameters(recurse=False):
            if norm:
                nn.init.constant_(parameter, float(name == "weight"))
            else:
                nn.init.normal_(parameter, std=0.02)
        for name, buffer in part.named_buffers(recurse=False):
            if name == "position_ids":
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return module.eval().requires_grad_(False)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd15": _sd15,
    "sdxl": _sdxl,
    "pixart-sigma": _pixart_sigma,
    "flux-dev": _flux,
}
