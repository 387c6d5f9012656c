"""Kolors, tiny."""

import string
from functools import cache
from tempfile import TemporaryDirectory

import torch
from diffusers import EulerDiscreteScheduler, KolorsPipeline
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
from sentencepiece import SentencePieceTrainer
from torch import nn

from tiny import parts, sdxl

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""


def build(seed: int = 0) -> KolorsPipeline:
    """The UNet of tiny SDXL; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    tokenizer = glm_tokenizer()
    pipeline = KolorsPipeline(
        vae=parts.vae(),
        text_encoder=glm_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=sdxl.denoiser(encoder_hid_dim=parts.WIDTH, encoder_hid_dim_type="text_proj"),
        scheduler=EulerDiscreteScheduler(
            num_train_timesteps=1100,
            beta_start=0.00085,
            beta_end=0.014,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
    )
    return parts.ready(pipeline)


def glm_tokenizer() -> ChatGLMTokenizer:
    """Python-only tokenizer over :data:`parts.WORDS`, letters and bytes; two special tokens begin every text."""
    return ChatGLMTokenizer(f"{_vocabulary_folder().name}/tokenizer.model")


@cache
def _vocabulary_folder() -> TemporaryDirectory:
    """Holds a trained SentencePiece model for as long as the tests run, because tokenizers copy it when saved."""
    folder = TemporaryDirectory()
    sentences = [*parts.WORDS, ", ".join(parts.WORDS), *f"{string.ascii_lowercase},.-"] * 20
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=f"{folder.name}/tokenizer",
        model_type="bpe",
        vocab_size=360,
        hard_vocab_limit=False,
        byte_fallback=True,
        num_threads=1,
        minloglevel=2,
    )
    return folder


def glm_encoder(tokenizer: ChatGLMTokenizer) -> ChatGLMModel:
    """A ChatGLM of width :data:`parts.WIDTH` whose two heads share their keys."""
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=tokenizer.vocab_size,
        hidden_size=parts.WIDTH,
        ffn_hidden_size=32,
        kv_channels=8,
        num_attention_heads=2,
        seq_length=256,
        multi_query_attention=True,
        multi_query_group_num=1,
        add_qkv_bias=True,
        original_rope=True,
    )
    model = ChatGLMModel(config, empty_init=False)
    for part in model.modules():
        if type(part).__name__ == "RMSNorm":
            nn.init.ones_(part.weight)
    return model
