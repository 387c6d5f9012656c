"""AuraFlow, tiny."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import UMT5Config, UMT5EncoderModel

from goca.backbones import Conditioning
from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
REGISTERS = 8


def build(seed: int = 0) -> AuraFlowPipeline:
    """Two joint and two single blocks over 8 x 8 patches; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = parts.t5_tokenizer()
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=24**2,
    )
    encoder = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=parts.WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    pipeline = AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(encoder),
        vae=parts.vae(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return parts.ready(pipeline)


def poke(conditioning: Conditioning, tokens: Sequence[int]) -> Conditioning:
    """Turn around the features of some tokens, counted behind the registers."""
    embeddings = conditioning.embeddings.clone()
    embeddings[:, [token - REGISTERS for token in tokens]] *= -1
    return replace(conditioning, embeddings=embeddings)
