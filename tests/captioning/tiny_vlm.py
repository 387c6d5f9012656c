"""A tiny LLaVA that answers by heart: its weights map each token to the next one of a sentence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TEMPLATE = """\
{%- for message in messages %}{% for part in message.content -%}
{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}
{%- endfor %}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"""
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<answer>")


def build(folder: Path, answer: tuple[str, ...]) -> Path:
    """Save a model that says ``answer``, a sequence of different words, whatever it is shown."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *answer))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>", "<answer>"],
    )
    width = 32
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        ),
        image_token_index=vocabulary["<image>"],
    )
    model = LlavaForConditionalGeneration(config).eval()
    language = model.model.language_model
    chain = [vocabulary[token] for token in ("<answer>", *answer, "</s>")]
    with torch.no_grad():
        for layer in language.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        language.embed_tokens.weight.copy_(torch.eye(len(vocabulary), width))
        model.lm_head.weight.zero_()
        for token, following in pairwise(chain):
            model.lm_head.weight[following, token] = 100
    model.save_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder
