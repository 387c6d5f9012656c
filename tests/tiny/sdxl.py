"""Stable Diffusion XL, tiny."""

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> StableDiffusionXLPipeline:
    """Images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = parts.clip_tokenizer()
    unet = denoiser()
    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip_encoder(tokenizer, layers=2),
        text_encoder_2=parts.clip_encoder(tokenizer, CLIPTextModelWithProjection, layers=2),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    return parts.ready(pipeline)


def denoiser(**options: Any) -> UNet2DConditionModel:
    """Three resolutions, attention on the lower two, of several blocks each."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 2),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=2 * parts.WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + parts.WIDTH,
        norm_num_groups=4,
        **options,
    )
    parts.sharpen(unet)
    return unet
