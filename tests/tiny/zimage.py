"""Z-Image, tiny."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> ZImagePipeline:
    """Four joint blocks over 8 x 8 patches, after one block for each kind of tokens; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = parts.qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=4,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=parts.WIDTH,
        axes_dims=[4, 6, 6],
    )
    with torch.no_grad():
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
        transformer.context_refiner[0].attention_norm2.weight.mul_(0.1)  # words stay what they are
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=parts.vae(),
        text_encoder=parts.qwen_encoder(tokenizer, layers=2),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    return parts.ready(pipeline)
