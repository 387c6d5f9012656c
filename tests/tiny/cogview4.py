"""CogView4, tiny."""

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from tokenizers.processors import TemplateProcessing
from transformers import GlmConfig, GlmModel, PreTrainedTokenizerFast

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
PREFIX = ("[gMASK]", "<sop>")


def glm_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokenizer that begins every text with two special tokens and pads in front."""
    backend = parts.byte_tokenizer("", PREFIX).backend_tokenizer
    special = [(token, backend.token_to_id(token)) for token in PREFIX]
    backend.post_processor = TemplateProcessing(single=" ".join((*PREFIX, "$A")), special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|endoftext|>", padding_side="left", model_max_length=48
    )


def build(seed: int = 0) -> CogView4Pipeline:
    """Three blocks over 8 x 8 patches; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = glm_tokenizer()
    encoder = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=parts.WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.pad_token_id,
    )
    transformer = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=parts.WIDTH,
        time_embed_dim=32,
        condition_dim=8,
        sample_size=16,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
    )
    pipeline = CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=GlmModel(encoder),
        vae=parts.vae(),
        transformer=transformer,
        scheduler=scheduler,
    )
    return parts.ready(pipeline)
