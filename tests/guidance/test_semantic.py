"""Stock pipelines inside the context manager: every family that guides, and what is left behind."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor

from goca.backbones.dit import DiTBackbone
from goca.guidance import SemanticGuidance, run
from goca.segmenter import Segmenter

DISTILLED = ("flux", "flux2")
GUIDED = ["flux undistilled", *(name for name in tiny.FAMILIES if name not in DISTILLED)]
PROMPT = "cat, grass"
# Families whose tiny denoisers do not enlarge the rounding of a batch until a pixel changes its region.
STEADY = (
    "flux undistilled",
    "unet",
    "lumina2",
    "zimage",
    "qwenimage",
    "flux2-klein",
    "sd3",
    "auraflow",
    "chroma",
    "sana",
)
ROUNDING = 1e-5  # of float32, relative to the largest latent
STEPS = 4
SIZES = {"SanaPipeline": (64, 96), "HunyuanDiTPipeline": (128, 192)}


def build(family: str) -> Any:
    if family == "flux undistilled":
        return tiny.flux.build(guidance_embeds=False)
    pipeline = tiny.FAMILIES[family].build()
    if family == "hunyuandit":  # its stock call counts 77 and 256 tokens; the tiny model has fewer
        encode, config = pipeline.encode_prompt, pipeline.transformer.config
        lengths = (config.text_len, config.text_len_t5)
        pipeline.encode_prompt = lambda *args, **kwargs: encode(
            *args, **{**kwargs, "max_sequence_length": lengths[int(kwargs.get("text_encoder_index", 0))]}
        )
    return pipeline


def draw(pipeline: Any, prompt: str | list[str] = PROMPT, seeds: tuple[int, ...] = (0,), **options: Any) -> Tensor:
    """Latents after four steps, not square."""
    known = inspect.signature(type(pipeline).__call__).parameters
    height, width = SIZES.get(type(pipeline).__name__, (32, 48))
    given = {"height": height, "width": width, "num_inference_steps": STEPS}
    given |= {"output_type": "latent", "guidance_scale": 4.0}
    given |= {"use_resolution_binning": False, "clean_caption": False}
    if "true_cfg_scale" in known:
        given |= {"true_cfg_scale": given.pop("guidance_scale"), "negative_prompt": " "}
    if type(pipeline).__name__ == "HunyuanDiTPipeline":  # counts 8 pixels a latent, but this VAE has two
        given["latents"] = torch.stack([torch.randn(4, 16, 24, generator=torch.manual_seed(seed)) for seed in seeds])
    given = {name: value for name, value in given.items() if name in known} | options
    generator = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipeline(prompt=prompt, generator=generator, **given).images


def state(pipeline: Any) -> tuple[Any, ...]:
    """What must be the same after the context as before it."""
    hooks = [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks), getattr(module, "processor", None))
        for part in ("unet", "transformer")
        if isinstance(getattr(pipeline, part, None), torch.nn.Module)
        for name, module in getattr(pipeline, part).named_modules()
    ]
    return type(pipeline), dict(getattr(pipeline, "_progress_bar_config", {})), hooks


@pytest.mark.parametrize("family", GUIDED)
def test_every_family(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = build(family)
    plain, before = draw(pipeline, num_inference_steps=2), state(pipeline)
    with SemanticGuidance(pipeline, trace=True, segment=True) as guidance:
        guided = draw(pipeline, num_inference_steps=2)
    assert state(pipeline) == before
    assert not torch.equal(guided, plain)
    assert [step.index for step in guidance.steps] == [0, 1]
    regions, rate = guidance.steps[0].regions[0], guidance.steps[0].rates[0]
    assert regions is not None and rate is not None
    torch.testing.assert_close(regions.masks.sum(dim=0), torch.ones_like(rate))
    assert rate.shape[1] * 2 == rate.shape[0] * 3 and 0.8 <= rate.min() <= rate.max() <= 3.0 + 1e-5
    assert {"cat", "grass"} <= set(guidance.region_words())
    assert torch.equal(draw(pipeline, num_inference_steps=2), plain)

    monkeypatch.setattr(run, "guidance_rate", lambda _uncond, _text, _masks, foreground, _scale: foreground * 0 + 1)
    with SemanticGuidance(pipeline):
        again = draw(pipeline, num_inference_steps=2)
    assert (again - plain).abs().max() <= ROUNDING * plain.abs().max()  # another computation, so not the same bits


@pytest.mark.parametrize("family", STEADY)
def test_a_batch_is_its_singles(family: str) -> None:
    pipeline, other = build(family), "dog, palm tree"
    with SemanticGuidance(pipeline):
        batch = draw(pipeline, [PROMPT, other], (3, 4))
        singles = torch.cat([draw(pipeline, PROMPT, (3,)), draw(pipeline, other, (4,))])
        repeated = draw(pipeline, PROMPT, (3, 4), num_images_per_prompt=2)
    tolerance = ROUNDING * singles.abs().max()
    assert (batch - singles).abs().max() < tolerance
    assert (repeated[0] - singles[0]).abs().max() < tolerance


def test_shorter_prompts_that_are_padded_in_front_keep_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    original = run.region_masks

    def note(aggregation: Any, start: Any, tokens: Any, content: tuple[int, ...], *rest: Any) -> Any:
        seen.append(content)
        return original(aggregation, start, tokens, content, *rest)

    monkeypatch.setattr(run, "region_masks", note)
    with SemanticGuidance(build("cogview4")) as guidance:
        draw(guidance.segmenter.model.pipeline, [PROMPT, "cat" + ", tree" * 8], (0, 1), num_inference_steps=1)
    assert seen[0] == (29, 30, 31) and seen[1][-1] == 31


@pytest.mark.parametrize("masks", ["cfg", "goca"])
def test_a_segmentation_comes_at_no_extra_forward(masks: str) -> None:
    pipeline = build("unet")
    calls: list[int] = []
    pipeline.unet.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    plain = draw(pipeline)
    with SemanticGuidance(pipeline, masks, segment=True) as guidance:
        image = draw(pipeline, output_type="pil")[0]
    assert calls == [2] * STEPS * 2
    result = guidance.segmentation(image, ["grass", "cat"])
    assert result.labels.shape == (32, 48) and result.classes == ("grass", "cat")
    assert set(result.areas.values()) != {0.0, 1.0}
    if masks == "cfg":
        with SemanticGuidance(pipeline, masks, segment=True):
            assert torch.equal(draw(pipeline), plain)
    with pytest.raises(ValueError, match="does not mention 'dog'"):
        guidance.segmentation(image, ["dog"])


def test_models_without_guidance_can_still_be_segmented() -> None:
    pipeline = build("flux")
    with SemanticGuidance(pipeline, "cfg", segment=True) as guidance:
        pipeline(PROMPT, height=32, width=48, num_inference_steps=2, output_type="latent")
    assert guidance.segmentation(Image.new("RGB", (48, 32)), ["cat", "grass"]).labels.shape == (32, 48)


def count_masks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every making of token masks."""
    made: list[int] = []
    original = run.region_masks
    monkeypatch.setattr(run, "region_masks", lambda *args: made.append(1) or original(*args))
    return made


def test_masks_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, made = build("unet"), count_masks(monkeypatch)
    with SemanticGuidance(pipeline, every=3, trace=True) as guidance:
        draw(pipeline, num_inference_steps=7)
    assert len(made) == 3
    kept = [step.regions[0] for step in guidance.steps]
    assert kept[0] is kept[2] and kept[2] is not kept[3]
    assert not torch.equal(guidance.steps[0].rates[0], guidance.steps[1].rates[0])


def test_an_interval_leaves_the_other_steps_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, made = build("unet"), count_masks(monkeypatch)
    with SemanticGuidance(pipeline, interval=(0.25, 0.75), trace=True) as guidance:
        draw(pipeline)
    assert [step.index for step in guidance.steps] == [1, 2] and len(made) == 2


def test_guidance_that_a_callback_switches_off_stays_off() -> None:
    pipeline = build("unet")

    def stop(pipe: Any, step: int, _time: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step == 1:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    options = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    with SemanticGuidance(pipeline, trace=True) as guidance:
        draw(pipeline, **options)
    assert [step.index for step in guidance.steps] == [0, 1]


def test_an_exception_leaves_the_pipeline_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = build("unet")
    plain, before = draw(pipeline), state(pipeline)

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("out of luck")

    for place in ("region_masks", "aggregator"):
        with monkeypatch.context() as patch:
            patch.setattr(run if place == "region_masks" else Segmenter, place, fail)
            with pytest.raises(RuntimeError, match="out of luck"), SemanticGuidance(pipeline):
                draw(pipeline)
        assert state(pipeline) == before
    handle = pipeline.unet.up_blocks[-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of luck"), SemanticGuidance(pipeline):
        draw(pipeline)
    handle.remove()
    assert state(pipeline) == before and torch.equal(draw(pipeline), plain)
    compiled: list[Any] = []
    torch.compile(lambda x: x + 1, backend=lambda graph, _inputs: compiled.append(graph) or graph.forward)(plain)
    assert compiled  # compiling is possible again


def test_a_prompt_that_names_nothing_is_drawn_plainly() -> None:
    pipeline = build("unet")
    plain = draw(pipeline, ["the, and a", PROMPT], (0, 1))
    with SemanticGuidance(pipeline) as guidance:
        guided = draw(pipeline, ["the, and a", PROMPT], (0, 1))
    assert guidance.notes == ["the prompt 'the, and a' names nothing, so its image is drawn with plain guidance"]
    assert torch.equal(guided[0], plain[0]) and not torch.equal(guided[1], plain[1])


def test_s_cfg_makes_other_masks() -> None:
    pipeline = build("unet")
    images = []
    for masks in ("goca", "s-cfg"):
        with SemanticGuidance(pipeline, masks):
            images.append(draw(pipeline))
    assert not torch.equal(*images)


def test_a_compiled_denoiser_is_guided_alike() -> None:
    pipeline = build("unet")
    with SemanticGuidance(pipeline):
        expected = draw(pipeline)
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    with SemanticGuidance(pipeline):
        torch.testing.assert_close(draw(pipeline), expected)


@pytest.mark.parametrize("family", DISTILLED)
def test_distilled_models_are_refused(family: str) -> None:
    pipeline = build(family)
    with pytest.raises(ValueError, match="is guidance-distilled and takes the scale as an input"):
        SemanticGuidance(pipeline)


def test_models_of_few_steps_are_refused() -> None:
    klein, schnell = build("flux2-klein"), build("flux undistilled")
    klein.register_to_config(is_distilled=True)
    schnell.register_to_config(_name_or_path="black-forest-labs/FLUX.1-schnell")
    for pipeline in (klein, schnell):
        with pytest.raises(ValueError, match="distilled to few steps and needs none"):
            SemanticGuidance(pipeline)


def test_bad_input_is_refused_in_one_sentence() -> None:
    pipeline = build("unet")
    with pytest.raises(ValueError, match="unknown masks 'pag'; choose one of goca, s-cfg, cfg"):
        SemanticGuidance(pipeline, "pag")
    with pytest.raises(ValueError, match="every is a whole number of at least 1, not 0"):
        SemanticGuidance(pipeline, every=0)
    with pytest.raises(ValueError, match="the interval is a part of 0 to 1"):
        SemanticGuidance(pipeline, interval=(0.5, 0.2))
    before = state(pipeline)
    with SemanticGuidance(pipeline) as guidance:
        with pytest.raises(ValueError, match="a scale above 1, not 1; pass guidance_scale=5"):
            draw(pipeline, guidance_scale=1.0)
        with pytest.raises(ValueError, match="has 24 tokens, which is longer than the text encoder's limit of 16"):
            draw(pipeline, "cat, " * 12)
        with pytest.raises(ValueError, match="pass prompt instead of prompt_embeds"):
            draw(pipeline, None, prompt_embeds=torch.zeros(1, 16, 16), negative_prompt_embeds=torch.zeros(1, 16, 16))
        with pytest.raises(ValueError, match="pass segment=True"):
            guidance.segmentation(draw(pipeline, output_type="pil")[0], ["cat"])
    assert state(pipeline) == before
    for family, negative in (("qwenimage", "' '"), ("flux undistilled", "''")):
        expected = f"pass negative_prompt={negative} beside true_cfg_scale"
        with SemanticGuidance(build(family)) as guidance, pytest.raises(ValueError, match=expected):
            draw(guidance.segmenter.model.pipeline, negative_prompt=None)


def test_every_supported_pipeline_has_a_layout_or_is_distilled() -> None:
    from goca.backbones import BACKBONES

    distilled = {"Flux2Pipeline", "Flux2KleinKVPipeline"}
    assert {name for name, family in BACKBONES.items() if name not in family.guidance} == distilled
    assert all(set(family.guidance) <= set(family.pipelines) for family in BACKBONES.values())


def test_a_pipeline_without_a_layout_is_not_called_distilled(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = build("dit")
    monkeypatch.setattr(DiTBackbone, "guidance", {})
    with pytest.raises(ValueError, match=r"does not know how PixArtAlphaPipeline guides.* in DiTBackbone\.guidance"):
        SemanticGuidance(pipeline)
    with SemanticGuidance(pipeline, masks="cfg"):
        draw(pipeline)
