"""Pipelines that others have prepared: classes of their own, other autoencoders, half precision, image prompts, caches,
merged tokens."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    PyramidAttentionBroadcastConfig,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
)
from tiny import parts

from goca import Segmenter
from goca.backbones import BACKBONES
from goca.backbones.settings import find_pipeline
from goca.guidance.generate import Generator
from goca.guidance.semantic import SemanticGuidance
from goca.models import load, wrap
from goca.types import CrossRecord

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


def add_image_prompt(pipeline: Any, columns: int = 8, tokens: int = 4) -> None:
    """Load an IP-Adapter with random weights into a UNet's cross-attention."""
    unet, place = pipeline.unet, 1
    width, weights = unet.config.cross_attention_dim, {}
    for name in unet.attn_processors:
        if "attn2" in name:
            rows = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            weights |= {f"{place}.to_{part}_ip.weight": torch.randn(rows, width) for part in "kv"}
            place += 2
    projection = {
        "proj.weight": torch.randn(tokens * width, columns),
        "proj.bias": torch.zeros(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    state = {"image_proj": projection, "ip_adapter": weights}
    unet._load_ip_adapter_weights([state], low_cpu_mem_usage=False)


@pytest.mark.parametrize("family", ["unet", "sdxl"])
def test_an_image_prompt_takes_no_part_and_stays(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    expected = Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)
    add_image_prompt(pipeline)
    projection = pipeline.unet.encoder_hid_proj
    result = Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)
    np.testing.assert_allclose(result.maps, expected.maps, atol=1e-5)
    assert pipeline.unet.encoder_hid_proj is projection


def test_flux_with_an_image_prompt_segments_as_without() -> None:
    pipeline = tiny.flux.build()
    expected = Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)
    transformer, width = pipeline.transformer, 16
    inner = transformer.inner_dim
    weights = {
        f"{place}.to_{part}_ip.{kind}": torch.randn(inner, width) if kind == "weight" else torch.zeros(inner)
        for place in range(len(transformer.transformer_blocks))
        for part in "kv"
        for kind in ("weight", "bias")
    }
    projection = {"proj.weight": torch.randn(4 * width, 8), "proj.bias": torch.zeros(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    transformer.config.joint_attention_dim = width
    transformer._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}], low_cpu_mem_usage=False)
    result = Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)
    np.testing.assert_allclose(result.maps, expected.maps, atol=1e-5)


def test_a_run_with_an_image_prompt_records_what_the_pixels_see_of_the_text() -> None:
    pipeline = tiny.unet.build()
    add_image_prompt(pipeline)
    backbone = wrap("tiny", pipeline).backbone
    seen: list[CrossRecord] = []
    embeds = [torch.randn(2, 1, 8)]
    options = {"height": 32, "width": 32, "num_inference_steps": 1, "output_type": "latent"}
    with backbone.recording((16, 16), lambda _, record: seen.append(record), images=[1]):
        pipeline("cat, grass", ip_adapter_image_embeds=embeds, **options)
    assert [record.name for record in seen] == list(backbone.layers)
    assert all(record.cross_key.shape[1] == parts.TEXT_LENGTH and record.output is None for record in seen)
    with SemanticGuidance(Segmenter.from_pipeline(pipeline), trace=True) as guidance:
        pipeline("cat, grass", ip_adapter_image_embeds=embeds, **options)
    assert len(guidance.steps) == 1 and guidance.steps[0].rates[0].isfinite().all()


@pytest.mark.parametrize(
    "config",
    [
        FirstBlockCacheConfig(threshold=0.2),
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(100, 800),
            current_timestep_callback=lambda: 500,
        ),
        FasterCacheConfig(spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_denoiser_that_reuses_results_is_refused_until_its_cache_is_off(config: Any) -> None:
    pipeline = tiny.flux.build()
    segmenter = Segmenter.from_pipeline(pipeline)
    expected = segmenter(IMAGE, CLASSES)
    pipeline.transformer.enable_cache(config)
    with pytest.raises(ValueError, match=r"reuses results of earlier calls \(\w+\); switch that cache off"):
        segmenter(IMAGE, CLASSES)
    pipeline.transformer.disable_cache()
    assert np.array_equal(segmenter(IMAGE, CLASSES).maps, expected.maps)


def keep_first(module: torch.nn.Module) -> None:
    """Let a module return its first result for ever, as DeepCache does for some steps."""
    kept, forward = [], module.forward
    module.forward = lambda *args, **options: kept[0] if kept else kept.append(forward(*args, **options)) or kept[0]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("block", ["mid_block", "down_blocks.1.attentions.0", "down_blocks.2.resnets.0"])
def test_a_block_that_keeps_its_result_is_noticed(block: str, fast: bool) -> None:
    pipeline = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(pipeline, fast=fast)
    expected = segmenter(IMAGE, CLASSES)
    keep_first(pipeline.unet.get_submodule(block))
    assert np.array_equal(segmenter(IMAGE, CLASSES).maps, expected.maps)
    with pytest.raises(ValueError, match=rf"{block}.* did not run, so results of earlier calls took its place"):
        segmenter(IMAGE, CLASSES)


def test_a_transformer_block_that_keeps_its_result_is_noticed_where_it_is_not_asked_for() -> None:
    pipeline = tiny.dit.build()
    backbone = wrap("tiny", pipeline).backbone
    latents = backbone.encode_image(torch.zeros(1, 3, 32, 32))
    conditioning = backbone.encode_prompt(["cat"])
    keep_first(pipeline.transformer.transformer_blocks[0])
    wanted = backbone.layers[1:2]
    backbone.record(latents, 100, conditioning, lambda *_: None, wanted)
    for early in (False, True):
        with pytest.raises(ValueError, match=r"transformer_blocks.0#self of the denoiser did not run"):
            backbone.record(latents, 100, conditioning, lambda *_: None, wanted, stop_early=early)


def merge_tokens(attention: torch.nn.Module) -> None:
    """Compute an attention for every other pixel, as token merging does."""
    forward = attention.forward

    def merged(x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return forward(x[:, ::2], *args, **options).repeat_interleave(2, dim=1)[:, : x.shape[1]]

    attention.forward = merged


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("family", "part"), [("unet", "attn1"), ("unet", "attn2"), ("dit", "attn1"), ("dit", "attn2")])
def test_merged_tokens_are_refused(family: str, part: str, fast: bool) -> None:
    pipeline = tiny.FAMILIES[family].build()
    segmenter = Segmenter.from_pipeline(pipeline, fast=fast)
    for name, module in segmenter.model.backbone.denoiser.named_modules():
        if name.endswith(f".{part}"):
            merge_tokens(module)
    with pytest.raises(
        ValueError, match=r"sees \d+ tokens instead of \d+ x \d+ pixels: something merges or splits them"
    ):
        segmenter(IMAGE, CLASSES)


def test_merged_tokens_of_joint_attention_are_refused() -> None:
    pipeline = tiny.flux.build()
    for block in pipeline.transformer.transformer_blocks:
        forward = block.attn.forward

        def merged(hidden_states: Any, image_rotary_emb: Any, forward: Any = forward, **options: Any) -> Any:
            text = options["encoder_hidden_states"].shape[1]
            kept = [*range(text), *range(text, text + hidden_states.shape[1], 4)]
            rotary = tuple(each[kept] for each in image_rotary_emb)
            image, *rest = forward(hidden_states=hidden_states[:, ::4], image_rotary_emb=rotary, **options)
            return (image.repeat_interleave(4, dim=1), *rest)

        block.attn.forward = merged
    with pytest.raises(ValueError, match="something merges or splits them"):
        Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES)


def test_a_subclass_that_hands_its_arguments_on_is_given_the_size() -> None:
    class MyPipeline(diffusers.StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    make = Generator(Segmenter.from_pipeline(controlled(MyPipeline, tiny.unet.build())), "cfg", steps=1, size=(32, 48))
    assert {"height": 32, "width": 48, "num_inference_steps": 1}.items() <= make.options().items()
    assert make("cat, grass").image.size == (48, 32)
