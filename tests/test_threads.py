"""Calls from several threads give what they give alone, and nothing stays behind."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from borrowed import state, together

from goca import Segmenter
from goca.backbones.turns import models_turn
from goca.models import wrap

CLASSES = ["cat", "grass"]


def segmenter_of(pipeline: Any, method: str = "paper") -> Segmenter:
    model = wrap("tiny", pipeline)
    return Segmenter(replace(model, spec=replace(model.spec, image_size=32, output_grid=16, refine_order=1)), method)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_threads_share_a_segmenter() -> None:
    pipeline = tiny.unet.build()
    segmenter, before = segmenter_of(pipeline), state(pipeline)
    alone = [segmenter(image(seed), CLASSES, seed=seed).scores for seed in range(4)]
    calls = [lambda seed=seed: segmenter(image(seed), CLASSES, seed=seed).scores for seed in range(4)] * 2
    for found, expected in zip(together(calls), alone * 2, strict=True):
        assert np.array_equal(found, expected)
    assert state(pipeline) == before


def test_segmenters_of_one_model_and_of_others() -> None:
    pipeline, other = tiny.unet.build(), tiny.dit.build()
    segmenters = [segmenter_of(pipeline), segmenter_of(pipeline, "vanilla"), segmenter_of(other), segmenter_of(other)]
    before = state(pipeline), state(other)
    alone = [each([image(0), image(1)], CLASSES) for each in segmenters]
    for found, expected in zip(
        together([lambda each=each: each([image(0), image(1)], CLASSES) for each in segmenters]), alone, strict=True
    ):
        for one, two in zip(found, expected, strict=True):
            assert np.array_equal(one.scores, two.scores) and np.array_equal(one.labels, two.labels)
    assert (state(pipeline), state(other)) == before


def test_models_of_their_own_run_at_the_same_time() -> None:
    """Each waits inside its denoiser until the other is there too."""
    pipelines, both = [tiny.unet.build(), tiny.dit.build()], threading.Barrier(2, timeout=20)
    for denoiser in (pipelines[0].unet, pipelines[1].transformer):
        denoiser.register_forward_pre_hook(lambda *_: print(both.wait()))
    segmenters = [segmenter_of(pipeline) for pipeline in pipelines]
    together([lambda each=each: each(image(0), CLASSES) for each in segmenters])


def test_pipelines_that_share_a_text_encoder_wait_for_each_other() -> None:
    first, second = tiny.unet.build(), tiny.unet.build()
    second.register_modules(text_encoder=first.text_encoder, tokenizer=first.tokenizer)
    done = threading.Event()
    segmenter = segmenter_of(second)

    def segment() -> None:
        segmenter(image(0), CLASSES)
        done.set()

    with models_turn(first):
        thread = threading.Thread(target=segment)
        thread.start()
        assert not done.wait(0.5)
    thread.join(20)
    assert done.is_set()


def test_a_failure_in_one_thread_leaves_the_other_right() -> None:
    pipeline = tiny.unet.build()
    segmenter, before = segmenter_of(pipeline), state(pipeline)
    expected = segmenter(image(0), CLASSES).scores

    def fail() -> str:
        with pytest.raises(ValueError, match="of at least 1"):
            segmenter(image(0), CLASSES, batch_size=0)
        with pytest.raises(ValueError, match="finite"):
            segmenter.model.backbone.record(
                *noisy(segmenter), lambda *_: (_ for _ in ()).throw(ValueError("not finite"))
            )
        return "failed"

    found = together([fail, lambda: segmenter(image(0), CLASSES).scores] * 2)
    assert found[0] == found[2] == "failed"
    assert np.array_equal(found[1], expected) and np.array_equal(found[3], expected)
    assert state(pipeline) == before


def noisy(segmenter: Segmenter) -> tuple[Any, ...]:
    backbone = segmenter.model.backbone
    latents = segmenter.encode([image(0)])
    noised = backbone.add_noise(latents, 100, [torch.Generator().manual_seed(0)])
    return noised, 100, segmenter.encode_prompts(["cat, grass"])


def test_recordings_of_two_threads_overlap_in_any_order() -> None:
    """Both are open on one model at the same time; each sees its own thread's call."""
    pipeline = tiny.unet.build()
    segmenter, before = segmenter_of(pipeline), state(pipeline)
    backbone, (noised, *rest) = segmenter.model.backbone, noisy(segmenter)
    opened, closed = threading.Barrier(2, timeout=20), threading.Event()
    seen: dict[str, list[Any]] = {"first": [], "second": []}

    def record(name: str) -> None:
        latents = noised if name == "first" else -noised
        with backbone.recording((16, 16), lambda _, record: seen[name].append(record)):
            opened.wait()
            with models_turn(pipeline):
                backbone.denoise(latents, *rest)
            if name == "second":
                closed.wait(20)
        closed.set()

    together([lambda: record("first"), lambda: record("second")])
    for name, latents in (("first", noised), ("second", -noised)):
        alone: list[Any] = []
        backbone.record(latents, *rest, lambda _, record, alone=alone: alone.append(record))
        assert [each.name for each in seen[name]] == [each.name for each in alone]
        assert all(torch.equal(a.cross_query, b.cross_query) for a, b in zip(seen[name], alone, strict=True))
    assert state(pipeline) == before


@pytest.mark.parametrize("first", [0, 1])
def test_other_attention_comes_back_in_any_order(first: int) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName
    from diffusers.models.attention_processor import AttnProcessor

    pipeline = tiny.unet.build()
    pipeline.unet.set_attn_processor(AttnProcessor())
    flux = tiny.flux.build()
    flux.transformer.set_attention_backend(AttentionBackendName._NATIVE_MATH.value)
    for each in (pipeline, flux):
        backbone, before = wrap("tiny", each).backbone, state(each)
        contexts = [backbone.recording((16, 16), lambda *_: None, layers=backbone.layers[:1]) for _ in range(2)]
        for context in contexts:
            context.__enter__()
        for index in (first, 1 - first):
            with pytest.raises(RuntimeError, match="No attention call was seen"):
                contexts[index].__exit__(None, None, None)
        assert state(each) == before


def test_a_borrowed_pipeline_comes_back_as_it_was() -> None:
    pipeline = tiny.unet.build()
    pipeline.unet.train().requires_grad_(True)
    pipeline.unet.mid_block.eval()
    pipeline.vae.train()
    pipeline.set_progress_bar_config(desc="mine")
    before = state(pipeline)
    segmenter = segmenter_of(pipeline)
    trained = segmenter(image(0), CLASSES).scores
    assert state(pipeline) == before
    pipeline.unet.eval().requires_grad_(False)
    assert np.array_equal(segmenter_of(pipeline)(image(0), CLASSES).scores, trained)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "place", ["vae", "text_encoder", "unet", "unet.mid_block.attentions.0.transformer_blocks.0.attn2"]
)
def test_an_error_anywhere_leaves_nothing(place: str, error: type[BaseException]) -> None:
    pipeline = tiny.unet.build()
    segmenter, before = segmenter_of(pipeline), state(pipeline)
    part, _, rest = place.partition(".")
    module = getattr(pipeline, part).get_submodule(rest)
    if part == "vae":
        module = module.encoder

    def fail(*_: object) -> None:
        raise error("out of luck")

    handle = module.register_forward_pre_hook(fail)
    with pytest.raises(error, match="out of luck"):
        segmenter(image(0), CLASSES)
    handle.remove()
    assert state(pipeline) == before and torch.is_grad_enabled()
    assert len(together([lambda: segmenter(image(0), CLASSES)])) == 1  # another thread has its turn
