"""Sana alone."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import cross_map, images, record
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from goca import Method, Segmenter
from goca.backbones.sana import SanaBackbone
from goca.models import wrap
from goca.models.specs import MODELS
from goca.text.prompt import build_prompt

TEXTS = ["cat", "dog, palm tree"]
PLAIN = {"use_resolution_binning": False, "width": 64}  # the pipeline refuses 48, but never looks at the latents' size


def backbone(**options: str) -> SanaBackbone:
    return SanaBackbone(tiny.sana.build(**options), "transformer_blocks.1")


def seen_tokens(sana: SanaBackbone, text: str) -> list[str]:
    """What the stock pipeline selects of its tokens: the first and the last 299."""
    full = "\n".join(sana.instruction) + text
    longest = len(sana.tokenizer.encode("\n".join(sana.instruction))) + 298
    options = {"padding": "max_length", "padding_side": "right", "truncation": True}
    ids = sana.tokenizer(full, max_length=longest, **options)["input_ids"]
    return sana.tokenizer.convert_ids_to_tokens([ids[0], *ids[-299:]])


@pytest.mark.parametrize("qk_norm", [None, "rms_norm_across_heads"])
def test_denoiser_is_called_as_the_pipeline_calls_it(qk_norm: str | None) -> None:
    (given,) = assert_same_as_stock(backbone(qk_norm=qk_norm), TEXTS, timestep=999, sigmas=None, **PLAIN)
    assert given["encoder_attention_mask"].sum(1).tolist() == [2, 5]
    assert given["timestep"].tolist() == [999, 999]  # of 999.67


def test_another_flow_scheduler_tells_the_time_unrounded() -> None:
    sana = backbone()
    sana.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    (given,) = assert_same_as_stock(sana, TEXTS, timestep=150, **PLAIN)
    assert given["timestep"].tolist() == pytest.approx([1000 * 0.45 / 1.3] * 2)


def test_words_of_the_instruction_are_not_the_texts() -> None:
    sana = backbone()
    prompt = build_prompt(["cat", "palm tree"], sana.token_spans, max_length=sana.max_tokens)
    seen = seen_tokens(sana, prompt.text)
    assert seen[0] == "<bos>" and len(seen) == sana.max_tokens == 300
    words = ["".join(seen[token] for token in each.tokens) for each in prompt.classes]
    assert words == ["\u2581cat", "\u2581palm\u2581tree"]
    assert [seen[token] for token in prompt.content_tokens] == ["\u2581cat", "\u2581palm", "\u2581tree"]


def test_a_text_that_is_too_long_loses_its_end() -> None:
    sana = backbone()
    caption = f"cat{',' * 297} palm"
    assert seen_tokens(sana, caption)[299] == "\u2581palm"
    assert build_prompt(["palm"], sana.token_spans, caption=caption, max_length=300).classes[0].tokens == (299,)
    with pytest.raises(ValueError, match="'palm' lies beyond the text encoder's limit of 300 tokens"):
        build_prompt(["palm"], sana.token_spans, caption=caption.replace("cat", "cat,"), max_length=300)


def test_masked_tokens_get_no_attention() -> None:
    assert cross_map(record(backbone(), ["cat"], [3]).records[0, "transformer_blocks.0"])[..., 2:].max() == 0


def test_latents_are_scaled_and_a_quarter_of_the_image() -> None:
    sana = backbone()
    picture = images(3, height=40, width=24)
    latents = sana.encode_image(picture)
    assert latents.shape == (1, 4, 10, 6)
    torch.testing.assert_close(sana.pipeline.vae.encode(picture).latent * 0.41407, latents)


def test_signal_to_noise_at_the_derived_timestep_is_pixarts() -> None:
    sana, dit = (wrap("tiny", tiny.FAMILIES[family].build()) for family in ("sana", "dit"))
    ratios = []
    for model in (sana, dit):
        level = model.backbone.noise_level(model.spec.timestep, torch.zeros(1, 4, 8, 8))
        ratios.append(level.alpha / level.sigma)
    assert ratios == pytest.approx([3, 3], rel=0.05)


@pytest.mark.parametrize("name", ["sana", "sana-1.5"])
def test_settings_need_no_self_attention(name: str) -> None:
    layers = tuple(f"transformer_blocks.{index}" for index in range(20))
    settings = SanaBackbone.derive_settings(layers)
    assert (settings.reference_layer, settings.refine_layers, settings.refine_order) == (layers[9], (), 0)
    assert MODELS[name].layer_rule == settings.layer_rule == "vanilla"
    assert "no self-attention maps" in MODELS[name].description and not MODELS[name].published


def segment(method: Method | str) -> Any:
    return Segmenter.from_pipeline(tiny.sana.build(), method, name="sana", size=32)(
        Image.new("RGB", (32, 32), "red"), ["cat", "sky"]
    )


@pytest.mark.parametrize("method", [Method(layers="mse"), Method(refine_order=1)])
def test_a_method_that_needs_self_attention_maps_is_refused(method: Method) -> None:
    with pytest.raises(
        ValueError, match=r"sana has no self-attention maps, .*; take layer rule 'vanilla' and refinement"
    ):
        segment(method)


@pytest.mark.parametrize("method", ["paper", "plus", "vanilla", Method(layers="vanilla", refine_order=0)])
def test_other_methods_are_taken(method: Method | str) -> None:
    assert segment(method).labels.shape == (32, 32)
