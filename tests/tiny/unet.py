"""Stable Diffusion 1.x, tiny."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from tiny import parts

PIXELS_PER_TOKEN = 2
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> StableDiffusionPipeline:
    """Three resolutions, attention on all of them; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = parts.clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=parts.WIDTH,
        norm_num_groups=4,
    )
    parts.sharpen(unet)
    pipeline = StableDiffusionPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return parts.ready(pipeline)
