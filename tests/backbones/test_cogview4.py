"""CogView4 alone."""

import pytest
import tiny
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import cross_map, noisy, record
from torch import nn

from goca.backbones.cogview4 import CogView4Backbone
from goca.text.prompt import build_prompt

LONG = "cat" + ", tree" * 8
TEXTS = ["dog", "a cat", LONG, "sky"]
LENGTHS = [16, 16, 32, 16]


def backbone() -> CogView4Backbone:
    return CogView4Backbone(tiny.cogview4.build(), "transformer_blocks.1")


def test_denoiser_is_told_what_the_pipeline_tells_it() -> None:
    calls = assert_same_as_stock(
        backbone(), TEXTS, batches=[TEXTS[:2], TEXTS[2:3], TEXTS[3:]], sigmas=None, timesteps=[150]
    )
    assert [len(call["hidden_states"]) for call in calls] == [2, 1, 1]
    assert calls[0]["original_size"].tolist() == [[32, 48], [32, 48]]
    assert calls[0]["timestep"].tolist() == [150, 150]


def test_noise_is_shifted_by_the_image_size_but_not_the_time() -> None:
    cogview = backbone()
    level = cogview.noise_level(150, torch.zeros(1, 4, 32, 32))
    mu = 0.25 + 0.75  # 256 patches
    assert level.sigma == pytest.approx(mu / (mu + 1 / 0.15 - 1), rel=1e-5)
    larger = cogview.noise_level(150, torch.zeros(1, 4, 64, 64))
    assert larger.sigma == pytest.approx(1.75 / (1.75 + 1 / 0.15 - 1), rel=1e-5)
    assert level.time == larger.time == 150


def test_texts_of_any_length_give_what_they_give_alone() -> None:
    cogview = backbone()
    for part in cogview.pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(torch.float64)
    together = record(cogview, TEXTS, [1, 2, 3, 4])
    assert len(together.records) == 4 * len(cogview.layers)
    for image, (text, length) in enumerate(zip(TEXTS, LENGTHS, strict=True)):
        alone = record(cogview, [text], [image + 1])
        torch.testing.assert_close(together.prediction[image], alone.prediction[0], atol=1e-6, rtol=1e-6)
        for name in cogview.layers:
            mixed, single = together.records[image, name], alone.records[0, name]
            assert mixed.cross_key.shape[1] == length
            torch.testing.assert_close(cross_map(mixed), cross_map(single), atol=1e-6, rtol=1e-6)
        mixed, single = (each.records[row, cogview.reference_layer] for each, row in ((together, image), (alone, 0)))
        torch.testing.assert_close(mixed.reference, single.reference, atol=1e-6, rtol=1e-6)


def test_stopping_early_waits_for_the_last_group() -> None:
    cogview = backbone()
    seen: list[tuple[int, str]] = []
    prediction = cogview.record(
        noisy(cogview, [1, 2, 3, 4]),
        100,
        cogview.encode_prompt(TEXTS),
        lambda image, layer: seen.append((image, layer.name)),
        cogview.layers[:2],
        stop_early=True,
    )
    assert prediction is None
    assert sorted(seen) == [(image, layer) for image in range(4) for layer in cogview.layers[:2]]


def test_words_come_after_the_padding() -> None:
    cogview = backbone()
    prompt = build_prompt(["dog"], cogview.token_spans, max_length=cogview.max_tokens)
    assert prompt.classes[0].tokens == (15,)
    prompt = build_prompt(["cat"], cogview.token_spans, caption=LONG, max_length=cogview.max_tokens)
    assert prompt.classes[0].tokens == (32 - 17,)
    assert len(prompt.content_tokens) == 9


def test_a_text_that_is_too_long_loses_its_end() -> None:
    cogview = backbone()
    text = "cat" + " tree" * 60 + " dog"
    assert cogview.encode_prompt([text]).embeddings.shape[1] == cogview.max_tokens == 48
    assert build_prompt(["cat"], cogview.token_spans, caption=text, max_length=48).classes[0].tokens == (2,)
    with pytest.raises(ValueError, match="'dog' lies beyond the text encoder's limit of 48 tokens"):
        build_prompt(["dog"], cogview.token_spans, caption=text, max_length=48)


def test_each_text_is_encoded_once() -> None:
    cogview, calls = backbone(), []
    cogview.pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    assert cogview.encode_prompt(["cat", "dog", "cat"]).embeddings.shape[0] == 3
    assert len(calls) == 2
