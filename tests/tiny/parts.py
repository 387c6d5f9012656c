"""What tiny pipelines are made of: tokenizers over a few words, text encoders and a VAE with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TEXT_LENGTH = 16
WIDTH = 16
WORDS = ("cat", "dog", "car", "palm", "tree", "grass", "sky", "fire", "a", "the", "and", "background")
"""Whole-word tokens; any other word falls into letters, except that "carpet" starts with the token of "car"."""
QWEN_TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokenizer over letters and :data:`WORDS`."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,.-"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges = merge_letters(tokens, (list("car"), *([*word[:-1], f"{word[-1]}</w>"] for word in WORDS)))
    return CLIPTokenizer(vocab=numbered(tokens), merges=merges, model_max_length=TEXT_LENGTH)


def merge_letters(tokens: list[str], words: Iterable[list[str]]) -> list[tuple[str, str]]:
    """Byte-pair merges that build each word from its letters, from the left; what they build joins ``tokens``."""
    merges: list[tuple[str, str]] = []
    for left, *letters in words:
        for right in letters:
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in tokens:
                tokens.append(left)
    return merges


def numbered(tokens: list[str]) -> dict[str, int]:
    """Each token's index."""
    return {token: index for index, token in enumerate(tokens)}


def byte_tokenizer(template: str, special: Iterable[str], words: Iterable[str] = (), **options: str) -> Qwen2Tokenizer:
    """Byte-level tokenizer of Qwen's kind, whose end of text is its padding; ``words`` are known beside :data:`WORDS`.

    A word after a space is one token together with it, "\u0120cat".
    """
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    known = [*words, *sorted(WORDS, key=len, reverse=True)]  # so that no word is torn by a later one's merges
    merges = merge_letters(tokens, [*(["\u0120", *word] for word in known), *map(list, known)])
    tokenizer = Qwen2Tokenizer(vocab=numbered(tokens), merges=merges, extra_special_tokens=list(special), **options)
    tokenizer.chat_template = template
    return tokenizer


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Knows the words of Qwen-Image's system message, so that its first 34 tokens are the same as the real one's."""
    things = "image by detailing color shape size texture quantity text spatial relationships of objects"
    return byte_tokenizer(
        QWEN_TEMPLATE, ("<|im_start|>", "<|im_end|>"), ["system", "Describe", *things.split(), "user"]
    )


def qwen_encoder(tokenizer: Qwen2Tokenizer, layers: int) -> Qwen3ForCausalLM:
    """A Qwen 3 language model of width :data:`WIDTH`."""
    return Qwen3ForCausalLM(Qwen3Config(**language_sizes(tokenizer, layers)))


def language_sizes(tokenizer: PreTrainedTokenizerBase, layers: int) -> dict[str, Any]:
    """What configures a language model of width :data:`WIDTH` whose two heads share their keys."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def t5_tokenizer() -> T5Tokenizer:
    """Unigram tokenizer over letters and :data:`WORDS`."""
    words = [(f"\u2581{word}", -3.0) for word in WORDS]
    letters = [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyz,.-"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters, *words]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TEXT_LENGTH)


def clip_encoder(tokenizer: CLIPTokenizer, kind: type = CLIPTextModel, layers: int = 1) -> Any:
    """A CLIP text encoder of width :data:`WIDTH`; ``kind`` may be the class with a projection."""
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            projection_dim=WIDTH,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5_encoder(tokenizer: T5Tokenizer, width: int = WIDTH) -> T5EncoderModel:
    """A T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def vae(channels: int = 4) -> AutoencoderKL:
    """Stride 2, so that images of 32 pixels are latents of 16."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=32,
    )


def sharpen(denoiser: nn.Module, factor: float = 4.0) -> None:
    """Give cross-attention some contrast: freshly initialised queries and keys attend almost evenly."""
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if ".attn" in name and ("to_q" in name or "to_k" in name):
                parameter.mul_(factor)


def ready(pipeline: Any) -> Any:
    """Frozen, silent, in evaluation mode."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline to ``folder`` as the hub keeps them."""
    pipeline.save_pretrained(folder)
    return folder
