"""FLUX.2 dev, tiny: Mistral 3 as text encoder."""

from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Pipeline, Flux2Transformer2DModel
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    PreTrainedTokenizerBase,
)

from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
ENCODER_LAYERS = 30
TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == "system" %}[SYSTEM_PROMPT]{{ message.content[0].text }}[/SYSTEM_PROMPT]
    {%- else %}[INST]{{ message.content[0].text }}[/INST]{% endif %}
{%- endfor %}"""


def build(seed: int = 0) -> Flux2Pipeline:
    """Two double and three single blocks over 8 x 8 patches; images of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = mistral_tokenizer()
    return parts.ready(
        Flux2Pipeline(text_encoder=mistral_encoder(tokenizer), tokenizer=tokenizer, **image_parts(guidance_embeds=True))
    )


def image_parts(guidance_embeds: bool) -> dict[str, Any]:
    """All of the pipeline but its text encoder."""
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * parts.WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    parts.sharpen(transformer)
    return {
        "transformer": transformer,
        "vae": vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def vae() -> AutoencoderKLFlux2:
    """Stride 2, with statistics of its patches that are not those of an untrained normalisation."""
    model = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=32,
    )
    model.bn.running_mean.uniform_(-0.5, 0.5)
    model.bn.running_var.uniform_(0.5, 1.5)
    return model


def mistral_tokenizer(padding_side: str = "left") -> PreTrainedTokenizerBase:
    """Byte-level tokenizer with Mistral's control tokens and chat template."""
    special = ("<s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    return parts.byte_tokenizer(TEMPLATE, special, bos_token="<s>", padding_side=padding_side)


def mistral_encoder(tokenizer: PreTrainedTokenizerBase) -> Mistral3ForConditionalGeneration:
    """As many layers as the pipeline reads its features from."""
    text = MistralConfig(**parts.language_sizes(tokenizer, ENCODER_LAYERS))
    vision = PixtralVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    image_token = tokenizer.convert_tokens_to_ids("[IMG]")
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=vision, image_token_index=image_token)
    )
