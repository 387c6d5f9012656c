"""Chroma, tiny."""

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> ChromaPipeline:
    """Two double and two single blocks over 8 x 8 packed latents; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = parts.t5_tokenizer()
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    pipeline = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=parts.vae(),
        text_encoder=parts.t5_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipeline.default_sample_size = 16
    return parts.ready(pipeline)
