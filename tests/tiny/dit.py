"""PixArt-alpha, tiny."""

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0, micro_conditions: bool = False) -> PixArtAlphaPipeline:
    """Three blocks over 8 x 8 patches; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = parts.t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=24,
        caption_channels=parts.WIDTH,
        sample_size=16,
        patch_size=2,
        use_additional_conditions=micro_conditions,
    )
    parts.sharpen(transformer)
    pipeline = PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=parts.t5_encoder(tokenizer),
        vae=parts.vae(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )
    return parts.ready(pipeline)
