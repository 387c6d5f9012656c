"""Sana, tiny."""

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

from tiny import parts
from tiny.lumina2 import gemma, gemma_tokenizer

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0, qk_norm: str | None = None) -> SanaPipeline:
    """Three blocks over 8 x 8 pixels of the latents; images of 32 pixels.

    ``qk_norm`` is "rms_norm_across_heads" in Sana 1.5.
    """
    torch.manual_seed(seed)
    tokenizer = gemma_tokenizer()
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=3,
        attention_head_dim=8,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=parts.WIDTH,
        sample_size=8,
        qk_norm=qk_norm,
    )
    parts.sharpen(transformer)
    pipeline = SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=gemma(tokenizer),
        vae=deep_compression_vae(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, final_sigmas_type="zero"
        ),
    )
    return parts.ready(pipeline)


def deep_compression_vae() -> AutoencoderDC:
    """Stride 4, the last stage with linear attention over two scales."""
    blocks = ("ResBlock", "ResBlock", "EfficientViTBlock")
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )
