"""Guided calls beside other calls: in callbacks, in threads, entered twice, left in any order, cut short."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from borrowed import state, together
from diffusers import StableDiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from goca import Segmenter, SemanticGuidance
from goca.guidance.generate import Generator
from goca.models import wrap

PROMPT, CLASSES, STEPS = "cat, grass", ["cat", "grass"], 3
PREVIEW = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def draw(pipeline: Any, seed: int = 0, **options: Any) -> Any:
    given = {"height": 32, "width": 48, "num_inference_steps": STEPS, "output_type": "latent", "guidance_scale": 4.0}
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(seed), **given | options).images


def segmenter_of(pipeline: Any) -> Segmenter:
    model = wrap("tiny", pipeline)
    return Segmenter(replace(model, spec=replace(model.spec, image_size=32, output_grid=16, refine_order=1)))


def guide(model: Any, *settings: Any, **options: Any) -> SemanticGuidance:
    """Guidance whose maps are small."""
    return SemanticGuidance(model if isinstance(model, Segmenter) else segmenter_of(model), *settings, **options)


def guided(model: Any, seed: int = 0, **options: Any) -> tuple[Tensor, int]:
    """Latents, and the number of guided steps."""
    with guide(model, trace=True) as guidance:
        return draw(guidance.segmenter.model.pipeline, seed, **options), len(guidance.steps)


class Preview(PipelineCallback):
    """Segments with the pipeline that is drawing; a callback of the kind that names the tensors it reads."""

    tensor_inputs = ("latents",)
    segmenter: Segmenter

    def callback_fn(self, _pipeline: Any, _step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        assert set(values) == {"latents"}
        self.segmenter(PREVIEW, CLASSES)
        return values


@pytest.mark.parametrize("kind", ["function", "official", "several", "older"])
def test_a_callback_may_segment_with_the_same_pipeline(kind: str) -> None:
    pipeline = tiny.unet.build()
    segmenter = segmenter_of(pipeline)
    expected, before, alone = guided(segmenter), state(pipeline), segmenter(PREVIEW, CLASSES).scores
    seen: list[np.ndarray] = []
    preview = Preview()
    preview.segmenter = lambda *given: seen.append(segmenter(*given).scores)  # type: ignore[assignment]

    def watch(*given: Any) -> Any:
        seen.append(segmenter(PREVIEW, CLASSES).scores)
        return given[-1]

    name = "callback" if kind == "older" else "callback_on_step_end"
    callback = {"official": preview, "several": MultiPipelineCallbacks([preview])}.get(kind, watch)
    options = {"callback_steps": 1} if kind == "older" else {}
    found = guided(segmenter, **{name: callback}, **options)
    assert torch.equal(found[0], expected[0]) and found[1] == expected[1] == STEPS
    assert len(seen) == STEPS and all(np.array_equal(each, alone) for each in seen)
    assert state(pipeline) == before


def test_a_callback_may_draw_with_another_pipeline_of_the_same_models() -> None:
    pipeline = tiny.unet.build()
    other = StableDiffusionPipeline(**tiny.unet.build().components | {"unet": pipeline.unet, "vae": pipeline.vae})
    other.set_progress_bar_config(disable=True)
    expected, plain, inner = guided(pipeline), draw(other, 1), guided(other, 1)
    seen: list[Any] = []

    def watch(_pipeline: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(draw(other, 1) if step % 2 else guided(other, 1)[0])
        return values

    found = guided(pipeline, callback_on_step_end=watch)
    assert torch.equal(found[0], expected[0]) and found[1] == STEPS
    assert all(torch.equal(each, plain if step % 2 else inner[0]) for step, each in enumerate(seen))


def test_a_denoiser_called_by_another_thread_is_not_guided() -> None:
    """In the middle of a guided call, by someone who asks nobody."""
    pipeline = tiny.unet.build()
    inputs = (torch.ones(2, 4, 16, 24), 10, torch.ones(2, 16, pipeline.unet.config.cross_attention_dim))
    with torch.no_grad():
        plain = pipeline.unet(*inputs, return_dict=False)[0]
    expected, seen = guided(pipeline), []

    @torch.no_grad()
    def intrude() -> None:
        seen.append(pipeline.unet(*inputs, return_dict=False)[0])

    def start(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()

    handle = pipeline.unet.mid_block.attentions[0].register_forward_pre_hook(start)
    found = guided(pipeline)
    handle.remove()
    assert torch.equal(found[0], expected[0]) and found[1] == STEPS
    assert len(seen) == STEPS and all(torch.equal(each, plain) for each in seen)


def test_threads_that_each_guide_one_pipeline() -> None:
    pipeline = tiny.unet.build()
    segmenter, before = segmenter_of(pipeline), state(pipeline)
    alone = [guided(segmenter, seed) for seed in range(3)]
    preview = segmenter(PREVIEW, CLASSES).scores
    found = together(
        [
            *[lambda seed=seed: guided(segmenter, seed) for seed in range(3)],
            lambda: segmenter(PREVIEW, CLASSES).scores,
        ]
    )
    assert np.array_equal(found.pop(), preview)
    assert all(torch.equal(one, two) and steps == STEPS for (one, steps), (two, _) in zip(found, alone, strict=True))
    assert state(pipeline) == before


def test_threads_inside_one_context_read_their_own_calls() -> None:
    pipeline = tiny.unet.build()
    options = {"output_type": "pil"}

    def areas(guidance: SemanticGuidance, seed: int) -> dict[str, float]:
        return guidance.segmentation(draw(pipeline, seed, **options)[0], CLASSES).areas

    with guide(pipeline, segment=True, trace=True) as guidance:
        alone = [areas(guidance, seed) for seed in range(3)]
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda seed: areas(guidance, seed), range(3))) == alone
        assert len(guidance.steps) == STEPS


def test_generators_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny.unet.build()
    segmenter = segmenter_of(pipeline)
    makers = [Generator(segmenter, kind, steps=2, size=(32, 32)) for kind in ("goca", "s-cfg", "cfg")]
    before = state(pipeline)
    alone = [make(PROMPT, 5, classes=CLASSES) for make in makers]
    found = together([lambda make=make: make(PROMPT, 5, classes=CLASSES) for make in makers])
    for one, two in zip(found, alone, strict=True):
        assert one.image.tobytes() == two.image.tobytes()
        assert one.segmentation is not None and two.segmentation is not None
        assert np.array_equal(one.segmentation.scores, two.segmentation.scores)
    assert state(pipeline) == before


def test_two_pipelines_whose_callbacks_use_each_other_do_not_wait_for_ever() -> None:
    pipelines = [tiny.unet.build(), tiny.dit.build()]
    segmenters, inside = [segmenter_of(each) for each in pipelines], threading.Barrier(2, timeout=20)

    def run(index: int) -> int:
        def watch(_pipeline: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
            if step == 0:
                inside.wait()
            segmenters[1 - index](PREVIEW, CLASSES)
            return values

        def older(step: int, time: Any, latents: Tensor) -> None:
            watch(None, step, time, {})

        given = {"callback_on_step_end": watch} if index == 0 else {"callback": older, "callback_steps": 1}
        return (
            guided(segmenters[index], use_resolution_binning=False, **given)[1]
            if index
            else guided(segmenters[index], **given)[1]
        )

    assert together([lambda: run(0), lambda: run(1)]) == [STEPS, STEPS]


def test_entered_twice_is_refused() -> None:
    pipeline = tiny.unet.build()
    before, (once, _) = state(pipeline), guided(pipeline)
    with guide(pipeline) as guidance:
        for again in (guidance, guide(pipeline), guide(pipeline, "cfg", segment=True)):
            with pytest.raises(
                ValueError, match=r"^this pipeline is inside another SemanticGuidance already; leave that"
            ):
                again.__enter__()
        assert torch.equal(draw(pipeline), once)
    assert state(pipeline) == before
    with guidance:  # one after the other
        assert torch.equal(draw(pipeline), once)
    assert state(pipeline) == before


@pytest.mark.parametrize("first", [0, 1])
def test_contexts_of_two_threads_left_in_any_order(first: int) -> None:
    pipeline = tiny.unet.build()
    before, plain = state(pipeline), draw(pipeline)
    contexts = [guide(pipeline), guide(pipeline, "s-cfg")]
    together([context.__enter__ for context in contexts])
    with pytest.raises(ValueError, match="enter one in the thread that calls the pipeline"):
        draw(pipeline)
    contexts[first].__exit__(None, None, None)
    assert type(pipeline) is not StableDiffusionPipeline and not torch.equal(draw(pipeline), plain)
    contexts[1 - first].__exit__(None, None, None)
    assert state(pipeline) == before and torch.equal(draw(pipeline), plain)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["callback", "unet", "unet.mid_block.attentions.0", "vae", "text_encoder"])
def test_an_error_anywhere_leaves_nothing(place: str, error: type[BaseException]) -> None:
    pipeline = tiny.unet.build()
    (expected, _), before = guided(pipeline), state(pipeline)

    def fail(*_: object) -> None:
        raise error("out of luck")

    options: dict[str, Any] = {"output_type": "pil"}
    handle = None
    if place == "callback":
        options["callback_on_step_end"] = fail
    else:
        part, _, rest = place.partition(".")
        module = getattr(pipeline, part).get_submodule(rest)
        handle = (module.decoder if part == "vae" else module).register_forward_pre_hook(fail)
    with pytest.raises(error, match="out of luck"):
        guided(pipeline, **options)
    if handle is not None:
        handle.remove()
    assert state(pipeline) == before
    assert torch.equal(together([lambda: guided(pipeline)[0]])[0], expected)


def interrupt_at(last: int) -> Any:
    def callback(pipeline: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipeline._interrupt = step == last
        return values

    return callback


@pytest.mark.parametrize("masks", ["goca", "cfg"])
@pytest.mark.parametrize("family", ["unet", "sdxl", "sd3"])
def test_an_interrupted_call_is_segmented_by_its_last_step(family: str, masks: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    sizes = {"height": 32, "width": 48} if family != "sd3" else {}
    calls: list[int] = []
    denoiser = getattr(pipeline, segmenter_of(pipeline).model.backbone.denoiser_name)
    handle = denoiser.register_forward_hook(lambda *_: calls.append(1))
    with guide(pipeline, masks, segment=True) as guidance:
        draw(pipeline, callback_on_step_end=interrupt_at(1), **sizes)
        assert len(calls) == 2  # no further forward for the segmentation
        stopped = guidance._drawn.recorded[0].finish()
        image = np.zeros((32, 48, 3), np.uint8)
        assert guidance.segmentation(image, CLASSES).labels.shape == (32, 48)
        guidance._chosen = lambda timesteps: 1  # type: ignore[method-assign]
        draw(pipeline, **sizes)
        expected = guidance._drawn.recorded[0].finish()
    handle.remove()
    assert torch.equal(stopped.token_maps, expected.token_maps)


def test_a_callback_that_stops_nothing_changes_no_segmentation() -> None:
    pipeline = tiny.unet.build()
    with guide(pipeline, segment=True) as guidance:
        draw(pipeline)
        expected = guidance._drawn.recorded[0].finish()
        draw(pipeline, callback_on_step_end=interrupt_at(99))
        found = guidance._drawn.recorded[0].finish()
    assert torch.equal(found.token_maps, expected.token_maps)


@pytest.mark.parametrize(("end", "last"), [(0.4, 0), (0.7, 1)])
def test_a_call_that_ends_early_is_segmented_by_its_last_step(end: float, last: int) -> None:
    pipeline = tiny.sdxl.build()
    with guide(pipeline, segment=True, trace=True) as guidance:
        draw(pipeline, denoising_end=end)
        found, steps = guidance._drawn.recorded[0].finish(), len(guidance.steps)
        guidance._chosen = lambda timesteps: min(last, steps - 1)  # type: ignore[method-assign]
        draw(pipeline)
        expected = guidance._drawn.recorded[0].finish()
    assert torch.equal(found.token_maps, expected.token_maps)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_fails_after_some_steps_is_segmented_by_its_last_step(error: type[BaseException]) -> None:
    pipeline = tiny.unet.build()

    def fail(_pipeline: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            raise error("enough")
        return values

    with guide(pipeline, segment=True, trace=True) as guidance:
        with pytest.raises(error, match="enough"):
            draw(pipeline, callback_on_step_end=fail)
        found, steps = guidance._drawn.recorded[0].finish(), len(guidance.steps)
        draw(pipeline, callback_on_step_end=interrupt_at(1))
        expected = guidance._drawn.recorded[0].finish()
    assert steps == 2 and torch.equal(found.token_maps, expected.token_maps)


def test_a_call_stopped_by_something_else_says_so() -> None:
    pipeline = tiny.unet.build()
    pipeline.unet.register_forward_hook(lambda *_: setattr(pipeline, "_interrupt", True))
    with guide(pipeline, segment=True) as guidance:
        draw(pipeline)
        with pytest.raises(ValueError, match=r"nothing was recorded .* let one of its callbacks stop it"):
            guidance.segmentation(PREVIEW, CLASSES)


def test_images_of_every_output_type_are_segmented() -> None:
    pipeline = tiny.unet.build()
    with guide(pipeline, segment=True) as guidance:
        image = draw(pipeline, output_type="pil")[0]
        expected = guidance.segmentation(image, CLASSES)
        array, tensor = draw(pipeline, output_type="np")[0], draw(pipeline, output_type="pt")[0]
        for given in (array, array.astype(np.float64), np.asarray(image), tensor, tensor.half()):
            found = guidance.segmentation(given, CLASSES)
            assert found.image.size == image.size
            assert np.abs(np.asarray(found.image, int) - np.asarray(image, int)).max() <= 1
            assert np.array_equal(found.labels, expected.labels)
        for given, message in (
            (draw(pipeline)[0], "latents are no image"),
            (array[None], r"\(1, 32, 48, 3\); pass one image as"),
            (tensor[None], r"\(1, 3, 32, 48\)"),
            (array * 255, "values outside 0 to 1; pass one image"),
            (array * np.nan, "values outside 0 to 1"),
        ):
            with pytest.raises(ValueError, match=message):
                guidance.segmentation(given, CLASSES)
