"""Qwen-Image, tiny."""

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> QwenImagePipeline:
    """Four blocks over 8 x 8 packed latents; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = parts.qwen_tokenizer()
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    parts.sharpen(transformer)
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    return parts.ready(pipeline)


def vae() -> AutoencoderKLQwenImage:
    """Stride 2, for images and films."""
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.2, 0.1, 0.3, 0.0],
        latents_std=[0.5, 1.5, 2.0, 1.0],
    )


def text_encoder(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """A language model of width 16 that could look at images too."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    text = {**parts.language_sizes(tokenizer, layers=2), "rope_parameters": rope}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": parts.WIDTH}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
