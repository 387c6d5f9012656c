"""Kolors alone; what it shares with SDXL is tested there."""

from __future__ import annotations

import pytest
import tiny
import torch

from goca.backbones.kolors import KolorsBackbone, piece_spans
from goca.models import wrap
from goca.models.specs import MODELS
from goca.text.prompt import build_prompt


@pytest.fixture(scope="module")
def backbone() -> KolorsBackbone:
    return wrap("tiny", tiny.kolors.build()).backbone


def seen_tokens(backbone: KolorsBackbone, text: str) -> list[int]:
    """The ids of all 256 tokens, as the stock pipeline makes them."""
    return backbone.tokenizer(text, padding="max_length", max_length=256, truncation=True)["input_ids"]


def named(backbone: KolorsBackbone, classes: list[str], caption: str | None = None) -> list[str]:
    """The pieces at the positions of each class."""
    prompt = build_prompt(classes, backbone.token_spans, caption=caption, max_length=backbone.max_tokens)
    ids = seen_tokens(backbone, prompt.text)
    return [backbone.tokenizer.decode([ids[token] for token in each.tokens]) for each in prompt.classes]


def test_words_stand_behind_the_padding(backbone: KolorsBackbone) -> None:
    classes = ["palm tree", "car", "carpet", "fire engine"]
    assert named(backbone, classes) == classes
    prompt = build_prompt(["cat", "dog"], backbone.token_spans, max_length=256)
    assert [each.tokens for each in prompt.classes] == [(253,), (255,)]
    assert prompt.content_tokens == (253, 255)


def test_a_character_that_the_vocabulary_lacks_is_all_its_bytes(backbone: KolorsBackbone) -> None:
    assert named(backbone, ["猫", "café", "dog"]) == ["猫", "café", "dog"]
    pieces = backbone.tokenizer.tokenize("猫")
    assert pieces == ["\u2581", "<0xE7>", "<0x8C>", "<0xAB>"]
    assert piece_spans(pieces, "猫") == [(0, 0), (0, 1), (0, 1), (0, 1)]


def test_normalised_characters_keep_their_places(backbone: KolorsBackbone) -> None:
    text = "dog\uff0cgra\u017f\u017f, \ufb01re\u3000cat"  # a full-width comma, two long s, a ligature, a wide space
    pieces = backbone.tokenizer.tokenize(text)
    assert "".join(pieces) == "\u2581dog,grass,\u2581fire\u2581cat"
    covered = [text[slice(*span)] for span in piece_spans(pieces, text)]
    assert covered[:2] == ["dog", "\uff0c"] and covered[-2:] == [" \ufb01re", "\u3000cat"]
    prompt = build_prompt(["cat", "dog"], backbone.token_spans, caption=text.replace("\u3000", " "), max_length=256)
    assert [each.tokens for each in prompt.classes] == [(255,), (256 - len(pieces),)]


def test_an_empty_text_has_no_words(backbone: KolorsBackbone) -> None:
    (nothing,) = backbone.token_spans("")
    assert nothing.spans == {}


def test_a_text_that_is_too_long_loses_its_end(backbone: KolorsBackbone) -> None:
    caption = f"cat{',' * 253} dog"
    assert len(backbone.tokenizer(caption)["input_ids"]) == 257
    assert named(backbone, ["dog"], caption=caption.replace("cat,", "cat")) == ["dog"]
    with pytest.raises(ValueError, match="'dog' lies beyond the text encoder's limit of 256 tokens"):
        named(backbone, ["dog"], caption=caption)
    assert named(backbone, ["cat"], caption=caption) == ["cat"]


def test_features_are_the_layer_before_the_last_and_the_last_token_of_the_last(backbone: KolorsBackbone) -> None:
    outputs: list[torch.Tensor] = []
    layers = backbone.pipeline.text_encoder.encoder.layers
    handles = [layer.register_forward_hook(lambda _m, _i, output: outputs.append(output[0])) for layer in layers]
    conditioning = backbone.encode_prompt(["cat", "dog, grass"])
    for handle in handles:
        handle.remove()
    assert conditioning.mask is None
    assert torch.equal(conditioning.embeddings, outputs[-2].transpose(0, 1))
    assert torch.equal(conditioning.extra["text_embeds"], outputs[-1][-1])


def test_noise_follows_the_schedule_of_1100_steps(backbone: KolorsBackbone) -> None:
    betas = torch.linspace(0.00085**0.5, 0.014**0.5, 1100, dtype=torch.float64) ** 2
    level = backbone.noise_level(100, torch.zeros(1, 4, 16, 16))
    assert level.alpha**2 == pytest.approx((1 - betas).cumprod(0)[100].item(), rel=1e-5)


def test_settings_are_sdxls_and_not_published() -> None:
    layers = tuple(
        f"{stage}.attentions.{index}.transformer_blocks.{block}"
        for stage, count in (("down_blocks.1", 2), ("up_blocks.1", 3))
        for index in range(count)
        for block in range(2)
    )
    settings, spec = KolorsBackbone.derive_settings(layers), MODELS["sdxl"]
    assert (settings.reference_layer, settings.refine_layers) == (spec.reference_layer, spec.refine_layers)
    assert not MODELS["kolors"].published and not MODELS["kolors"].reference_layer
