"""Pipelines that others have prepared: classes of their own, other autoencoders, half precision."""

from __future__ import annotations

import inspect

import diffusers
import numpy as np
import pytest
import tiny
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
)
from tiny import parts

from goca import Segmenter
from goca.backbones import BACKBONES
from goca.backbones.settings import find_pipeline
from goca.guidance.semantic import SemanticGuidance
from goca.models import load, wrap

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
CLASSES = ["cat", "grass"]


def controlled(kind: type, pipeline: diffusers.StableDiffusionPipeline, **extra: object) -> diffusers.DiffusionPipeline:
    """The tiny pipeline's components in another class."""
    return kind(**pipeline.components, **extra, requires_safety_checker=False)


def test_a_subclass_is_its_base_class(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    expected = Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)

    def call(self: object, *args: object, **kwargs: object) -> object:
        raise AssertionError("nothing is drawn")

    pipeline.__class__ = type("MyPipeline", (type(pipeline),), {"__call__": call})
    assert np.array_equal(Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES).maps, expected.maps)


def test_a_controlnet_takes_no_part() -> None:
    plain = tiny.unet.build()
    expected = Segmenter.from_pipeline(plain)(IMAGE, CLASSES)
    control = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(8, 8))
    pipeline = parts.ready(controlled(StableDiffusionControlNetPipeline, plain, controlnet=control))
    segmenter = Segmenter.from_pipeline(pipeline)
    assert np.array_equal(segmenter(IMAGE, CLASSES).maps, expected.maps)
    options = {"image": torch.rand(1, 3, 32, 32), "num_inference_steps": 2, "output_type": "latent"}
    with SemanticGuidance(segmenter, trace=True) as guidance:
        pipeline("cat, grass", height=32, width=32, **options)
    assert len(guidance.steps) == 2


def test_a_pipeline_that_starts_from_an_image_segments_and_says_that_it_is_not_guided() -> None:
    plain = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(controlled(StableDiffusionImg2ImgPipeline, plain))
    assert np.array_equal(segmenter(IMAGE, CLASSES).maps, Segmenter.from_pipeline(plain)(IMAGE, CLASSES).maps)
    with pytest.raises(ValueError, match="goca does not know how StableDiffusionImg2ImgPipeline guides"):
        SemanticGuidance(segmenter)


def test_variants_that_diffusers_derives_have_their_pipelines_components_and_words() -> None:
    found = {}
    for name in dir(diffusers):
        base = find_pipeline(BACKBONES, name)
        if base is None or base == name:
            continue
        found[name] = base
        stock, variant = getattr(diffusers, base), getattr(diffusers, name)
        denoiser = BACKBONES[base].denoiser_name
        texts = [part for part in inspect.signature(stock.__init__).parameters if "text" in part or "token" in part]
        for part in (denoiser, "vae", "scheduler", *texts):
            assert part in inspect.signature(variant.__init__).parameters, (name, part)
        asked, given = (inspect.signature(each.encode_prompt).parameters for each in (stock, variant))
        assert list(asked) == list(given), name
    assert found["StableDiffusionXLControlNetUnionPipeline"] == "StableDiffusionXLPipeline"
    assert {"FluxControlNetPipeline", "HunyuanDiTControlNetPipeline", "SanaControlNetPipeline"} <= set(found)
    assert "StableDiffusionControlNetXSPipeline" not in found and "FluxControlPipeline" not in found


def tiny_vae(channels: int = 4) -> AutoencoderTiny:
    """As small and as fast as :func:`tiny.parts.vae`, without a posterior."""
    blocks = {f"{part}_block_out_channels": (8, 8) for part in ("encoder", "decoder")}
    counts = {f"num_{part}_blocks": (1, 1) for part in ("encoder", "decoder")}
    return AutoencoderTiny(latent_channels=channels, **blocks, **counts).eval()


@pytest.mark.parametrize("family", ["unet", "dit", "flux"])
def test_a_tiny_autoencoder_gives_its_latents(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    pipeline.vae = tiny_vae(pipeline.vae.config.latent_channels)
    backbone = wrap("tiny", pipeline).backbone
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(images).latents
    torch.testing.assert_close(backbone.encode_image(images), expected)
    assert Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES).labels.shape == (32, 32)


@pytest.mark.parametrize("family", ["qwenimage", "flux2-klein", "sana"])
def test_an_autoencoder_that_a_family_cannot_take_is_named(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    pipeline.vae = tiny_vae(8)
    with pytest.raises(ValueError, match=r"AutoencoderTiny .*give the pipeline the VAE it came with"):
        Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)


def test_latents_of_other_channels_than_the_denoisers_are_refused() -> None:
    pipeline = tiny.unet.build()
    pipeline.vae = tiny_vae(16)
    with pytest.raises(ValueError, match="gives latents of 16 channels, but the denoiser takes 4"):
        Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)


def test_an_unknown_autoencoder_is_refused() -> None:
    pipeline = tiny.unet.build()
    pipeline.vae.encode = lambda images: torch.zeros(1)
    with pytest.raises(ValueError, match="goca cannot read the latents of AutoencoderKL"):
        Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)


def test_latents_of_a_mean_and_a_deviation_per_channel() -> None:
    """As Playground 2.5 has them; the pipeline decodes latents * deviation / scale + mean."""
    pipeline = tiny.sdxl.build()
    backbone, images = wrap("tiny", pipeline).backbone, torch.rand(1, 3, 32, 32)
    mean, deviation = [0.5, 1.0, -2.0, 0.0], [2.0, 1.0, 0.5, 4.0]
    plain = backbone.encode_image(images) / pipeline.vae.config.scaling_factor
    pipeline.vae.register_to_config(latents_mean=mean, latents_std=deviation, scaling_factor=0.5)
    shift, width = (torch.tensor(each).view(1, 4, 1, 1) for each in (mean, deviation))
    torch.testing.assert_close(backbone.encode_image(images) * width / 0.5 + shift, plain)


def overflowing() -> diffusers.StableDiffusionXLPipeline:
    """SDXL whose VAE exceeds float16, as the real one does, and says so."""
    pipeline = tiny.sdxl.build()
    pipeline.vae.register_to_config(force_upcast=True)
    with torch.no_grad():
        pipeline.vae.encoder.conv_in.weight.mul_(3e5)
    return pipeline


def test_an_autoencoder_beyond_float16_runs_in_float32_and_stays_as_it_was() -> None:
    pipeline = overflowing()
    exact = wrap("tiny", pipeline).backbone.encode_image(torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)))
    half = pipeline.to(torch.float16)
    before = {name: (each.data_ptr(), each.clone()) for name, each in half.vae.named_parameters()}
    latents = wrap("tiny", half).backbone.encode_image(torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)))
    torch.testing.assert_close(latents.float(), exact, rtol=0.01, atol=0.01)
    for name, each in half.vae.named_parameters():
        assert each.data_ptr() == before[name][0] and torch.equal(each, before[name][1])
    half.vae.encode = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        wrap("tiny", half).backbone.encode_image(torch.rand(1, 3, 32, 32))
    assert all(each.dtype == torch.float16 for each in half.vae.parameters())


def test_an_autoencoder_that_does_not_say_that_it_exceeds_float16_is_named() -> None:
    pipeline = overflowing()
    pipeline.vae.register_to_config(force_upcast=False)
    with pytest.raises(ValueError, match=r"latents that are not finite; run it in float32: pipeline.vae.float\(\)"):
        Segmenter.from_pipeline(pipeline.to(torch.float16))(IMAGE, CLASSES)


def test_half_precision_that_is_offloaded_layer_by_layer_is_refused() -> None:
    pipeline = overflowing().to(torch.float16)
    here = torch.device("cpu")
    pipeline.vae.enable_group_offload(here, here, offload_type="leaf_level")
    with pytest.raises(ValueError, match=r"convert it before that is enabled: pipeline.vae.float\(\)"):
        Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)


def test_a_saved_controlnet_pipeline_is_loaded(tmp_path) -> None:
    plain = tiny.unet.build()
    control = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(8, 8))
    controlled(StableDiffusionControlNetPipeline, plain, controlnet=control).save_pretrained(tmp_path)
    loaded = load(str(tmp_path), device="cpu")
    assert isinstance(loaded.pipeline, StableDiffusionControlNetPipeline)
    expected = Segmenter.from_pipeline(plain)(IMAGE, CLASSES)
    np.testing.assert_allclose(Segmenter(loaded)(IMAGE, CLASSES).maps, expected.maps, atol=1e-5)
