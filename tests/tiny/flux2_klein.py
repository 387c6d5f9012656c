"""FLUX.2 klein, tiny: Qwen 3 as text encoder."""

import torch
from diffusers import DiffusionPipeline, Flux2KleinPipeline

from tiny import flux2, parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
ENCODER_LAYERS = 27


def build(seed: int = 0, kind: type[DiffusionPipeline] = Flux2KleinPipeline) -> DiffusionPipeline:
    """The denoiser of tiny FLUX.2 without embedded guidance; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = parts.qwen_tokenizer()
    encoder = parts.qwen_encoder(tokenizer, ENCODER_LAYERS)
    return parts.ready(kind(text_encoder=encoder, tokenizer=tokenizer, **flux2.image_parts(guidance_embeds=False)))
