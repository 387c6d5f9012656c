"""Stable Diffusion 3.5, tiny."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
WIDTH = 2 * parts.WIDTH  # of both CLIP encoders side by side


def build(seed: int = 0, t5: bool = True, dynamic_shift: bool = False) -> StableDiffusion3Pipeline:
    """Three blocks over 8 x 8 patches, the first with 3.5 medium's second attention; images of 32 pixels."""
    torch.manual_seed(seed)
    clip, tokenizer = parts.clip_tokenizer(), parts.t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic_shift),
        vae=parts.vae(),
        text_encoder=parts.clip_encoder(clip, CLIPTextModelWithProjection, layers=2),
        tokenizer=clip,
        text_encoder_2=parts.clip_encoder(clip, CLIPTextModelWithProjection, layers=2),
        tokenizer_2=clip,
        text_encoder_3=parts.t5_encoder(tokenizer, WIDTH) if t5 else None,
        tokenizer_3=tokenizer if t5 else None,
    )
    return parts.ready(pipeline)
