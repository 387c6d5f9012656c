"""HunyuanDiT, tiny."""

from dataclasses import replace

import torch
from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel, BertTokenizer

from goca.backbones import Conditioning
from tiny import parts

PIXELS_PER_TOKEN = 4
"""Image pixels per pixel of the finest attention grid, each way."""
OFFLOADS = False
"""diffusers' own forward reads weights past accelerate's hooks, so layer-wise offloading fails without goca, too."""
BERT_TOKENS = 12


def bert_tokenizer() -> BertTokenizer:
    """Whole words, letters and their continuations."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,.-"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *parts.WORDS, *letters, *(f"##{each}" for each in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocabulary, model_max_length=BERT_TOKENS)


def poke(conditioning: Conditioning, tokens: list[int]) -> Conditioning:
    """Turn the features of some tokens round, of whichever encoder they are."""
    bert, t5 = conditioning.embeddings.clone(), conditioning.extra["encoder_hidden_states_t5"].clone()
    for token in tokens:
        row = bert[:, token] if token < BERT_TOKENS else t5[:, token - BERT_TOKENS]
        row.neg_()
    return replace(conditioning, embeddings=bert, extra={**conditioning.extra, "encoder_hidden_states_t5": t5})


def build(seed: int = 0) -> HunyuanDiTPipeline:
    """Four blocks over 8 x 8 patches; images of 32 pixels, latents of 16."""
    torch.manual_seed(seed)
    bert, t5 = bert_tokenizer(), parts.t5_tokenizer()
    transformer = HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        patch_size=2,
        sample_size=16,
        hidden_size=32,
        num_layers=4,
        mlp_ratio=2.0,
        cross_attention_dim=parts.WIDTH,
        cross_attention_dim_t5=parts.WIDTH,
        pooled_projection_dim=8,
        text_len=BERT_TOKENS,
        text_len_t5=parts.TEXT_LENGTH,
    )
    parts.sharpen(transformer)
    encoder = BertModel(
        BertConfig(
            vocab_size=len(bert),
            hidden_size=parts.WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=BERT_TOKENS,
        )
    )
    pipeline = HunyuanDiTPipeline(
        vae=parts.vae(),
        text_encoder=encoder,
        tokenizer=bert,
        text_encoder_2=parts.t5_encoder(t5),
        tokenizer_2=t5,
        transformer=transformer,
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return parts.ready(pipeline)
