"""The embedded models' parts, built from stock diffusers and transformers classes with small configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from goca.datasets.scenes import CLASS_NAMES

TEXT_LENGTH = 32
JOINT_TEXT_LENGTH = 20
TEXT_WIDTH = 128
HEAD_WIDTH = 32
DENOISERS = {"dit": "transformer", "unet": "unet", "mmdit": "transformer"}
LATENT_CHANNELS = 4
LATENT_SIDE = 32
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "sample",
}
VOCABULARY: tuple[str, ...] = (*dict.fromkeys(word for name in CLASS_NAMES for word in name.split()), "a", "and")


def build_vae() -> AutoencoderKL:
    """A variational autoencoder with stride 4: 128 x 128 x 3 -> 32 x 32 x 4."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
        shift_factor=0.0,
    )


def build_dit(blocks: int = 8, heads: int = 6) -> PixArtTransformer2DModel:
    """Blocks of ``heads`` x 32 channels over 16 x 16 patches."""
    model = PixArtTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=HEAD_WIDTH,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=blocks,
        cross_attention_dim=heads * HEAD_WIDTH,
        caption_channels=TEXT_WIDTH,
        sample_size=LATENT_SIDE,
        patch_size=2,
        use_additional_conditions=False,
    )
    _zero(model.proj_out, *(block.attn2.to_out[0] for block in model.transformer_blocks))
    return model


def build_unet(width: int = 64) -> UNet2DConditionModel:
    """Three resolutions, 32 x 32 to 8 x 8, with cross-attention on all of them on the way up.

    Args:
        width: channels at 32 x 32, a multiple of 4; two and three times as many at the lower resolutions.
    """
    model = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(width, 2 * width, 3 * width),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4, 6),
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=width // 4,
        use_linear_projection=True,
    )
    _zero(model.conv_out)
    return model


def build_mmdit(double: int = 3, single: int = 4, heads: int = 6) -> FluxTransformer2DModel:
    """``double`` and ``single`` blocks of ``heads`` x 32 channels over 16 x 16 packed latents."""
    model = FluxTransformer2DModel(
        in_channels=LATENT_CHANNELS * 4,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=False,
    )
    _zero(model.proj_out)
    return model


def _zero(*modules: nn.Module) -> None:
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


def build_t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """A T5 encoder without mixing layers: every token keeps to its own word (see :func:`build_clip`)."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=0,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_clip(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder without mixing layers: every token keeps to its own word.

    With two causal layers the twenty padding tokens, which the UNet of this family does not mask, learned to sum the
    caption up; the denoiser then read the caption off them everywhere, and its maps said nothing about places
    (docs/embedded-models.md).
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=256,
            num_hidden_layers=0,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_t5_tokenizer(words: Sequence[str] = VOCABULARY, longest: int = TEXT_LENGTH) -> T5Tokenizer:
    """A SentencePiece-style unigram tokenizer that knows whole words and the comma."""
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", ",", *(f"\u2581{word}" for word in words)]
    scores = [0.0, 0.0, 0.0, -2.0, -2.0] + [-3.0] * len(words)
    return T5Tokenizer(vocab=list(zip(pieces, scores, strict=True)), extra_ids=0, model_max_length=longest)


def build_clip_tokenizer(words: Sequence[str] = VOCABULARY) -> CLIPTokenizer:
    """A byte-pair tokenizer whose merges spell out the known words from left to right; other words fall apart into
    letters.

    A word whose letters another word's merges take first keeps several tokens, as rare words do with the real CLIP.
    """
    letters = [*"abcdefghijklmnopqrstuvwxyz,"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in words:
        left = word[0]
        for position, letter in enumerate(word[1:], start=1):
            right = letter + ("</w>" if position == len(word) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in tokens:
                tokens.append(left)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def build_tokenizers(kind: str) -> dict[str, PreTrainedTokenizerBase]:
    """Tokenizers of a family, by the pipeline's names for them."""
    if kind == "dit":
        return {"tokenizer": build_t5_tokenizer()}
    if kind == "unet":
        return {"tokenizer": build_clip_tokenizer()}
    return {"tokenizer": build_clip_tokenizer(), "tokenizer_2": build_t5_tokenizer(longest=JOINT_TEXT_LENGTH)}


def build_model(kind: str, **size: int) -> nn.ModuleDict:
    """Text encoders and denoiser of a family ("dit", "unet" or "mmdit") with fresh weights, by the pipeline's names.

    Args:
        size: arguments of :func:`build_dit`, :func:`build_unet` or :func:`build_mmdit`; by default those of the
            shipped model.
    """
    tokenizers: dict[str, Any] = build_tokenizers(kind)
    if kind == "dit":
        return nn.ModuleDict({"text_encoder": build_t5(tokenizers["tokenizer"]), "transformer": build_dit(**size)})
    text_encoder = build_clip(tokenizers["tokenizer"])
    if kind == "unet":
        return nn.ModuleDict({"text_encoder": text_encoder, "unet": build_unet(**size)})
    t5 = build_t5(tokenizers["tokenizer_2"])
    return nn.ModuleDict({"text_encoder": text_encoder, "text_encoder_2": t5, "transformer": build_mmdit(**size)})


def assemble(
    kind: str, vae: AutoencoderKL, model: nn.ModuleDict
) -> PixArtAlphaPipeline | StableDiffusionPipeline | FluxPipeline:
    """Put trained parts together as the stock pipeline of their family."""
    parts: dict[str, Any] = {"vae": vae, **build_tokenizers(kind), **dict(model.items())}
    if kind == "dit":
        return PixArtAlphaPipeline(scheduler=DPMSolverMultistepScheduler(**SCHEDULE, thresholding=False), **parts)
    if kind == "unet":
        scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return StableDiffusionPipeline(scheduler=scheduler, **nothing, **parts)
    return FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **parts)


def sampling_options(kind: str, steps: int, scale: float) -> dict[str, Any]:
    """Arguments with which a family's stock pipeline draws a scene in ``steps`` steps, guided by ``scale``."""
    guidance: dict[str, dict[str, Any]] = {
        "dit": {"guidance_scale": scale, "clean_caption": False, "use_resolution_binning": False},
        "unet": {"guidance_scale": scale},
        "mmdit": {"true_cfg_scale": scale, "negative_prompt": "", "max_sequence_length": JOINT_TEXT_LENGTH},
    }
    return {"height": 128, "width": 128, "num_inference_steps": steps, **guidance[kind]}
