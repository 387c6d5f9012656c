from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import save_file
from tiny import parts

from goca.backbones.dit import DiTBackbone
from goca.backbones.flux import FluxBackbone
from goca.backbones.hunyuandit import HunyuanDiTBackbone
from goca.backbones.sdxl import SDXLBackbone
from goca.backbones.unet import UNetBackbone
from goca.models import list_models, load, wrap
from goca.models.specs import DEFAULT_MODEL, MODELS

SD15_LAYERS = tuple(
    f"{owner}.transformer_blocks.0"
    for owner in (
        *(f"down_blocks.{stage}.attentions.{index}" for stage in range(3) for index in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.{stage}.attentions.{index}" for stage in range(1, 4) for index in range(3)),
    )
)

SDXL_LAYERS = tuple(
    f"{stage}.attentions.{attention}.transformer_blocks.{block}"
    for stage, attentions, depth in (
        ("down_blocks.1", 2, 2),
        ("down_blocks.2", 2, 10),
        ("mid_block", 1, 10),
        ("up_blocks.0", 3, 10),
        ("up_blocks.1", 3, 2),
    )
    for attention in range(attentions)
    for block in range(depth)
)


def refusal(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    return kind("refused", response=SimpleNamespace(status_code=status, headers={}, request=None))


@pytest.mark.parametrize(("kind", "backbone"), [("unet_folder", UNetBackbone), ("dit_folder", DiTBackbone)])
def test_settings_of_a_folder_are_derived(request, kind, backbone):
    folder = str(request.getfixturevalue(kind))
    loaded = load(folder, device="cpu")
    assert isinstance(loaded.backbone, backbone)
    assert loaded.spec.name == folder and not loaded.spec.published and loaded.spec.vocabulary is None
    assert loaded.spec.image_size == 32
    assert loaded.spec.parameters == sum(each.numel() for each in loaded.backbone.denoiser.parameters())
    assert not any(each.requires_grad or each.dtype != torch.float32 for each in loaded.backbone.denoiser.parameters())


def test_half_precision_files_load_as_float32_on_the_cpu(tmp_path):
    folder = parts.save(tiny.dit.build().to(torch.float16), tmp_path)
    loaded = load(str(folder), device="cpu")
    assert loaded.backbone.dtype == loaded.pipeline.vae.dtype == loaded.pipeline.text_encoder.dtype == torch.float32
    assert load(str(folder), device="cpu", dtype=torch.bfloat16).backbone.dtype == torch.bfloat16


def test_named_model_uses_its_own_settings(monkeypatch, dit_folder):
    spec = replace(
        MODELS["scenes-dit"],
        source=str(dit_folder),
        reference_layer="transformer_blocks.2",
        refine_layers=("transformer_blocks.0",),
    )
    monkeypatch.setitem(MODELS, "scenes-dit", spec)
    loaded = load("scenes-dit", device="cpu")
    assert loaded.backbone.reference_layer == "transformer_blocks.2"
    assert replace(loaded.spec, parameters=None) == replace(spec, parameters=None)


def blocks(count: int, stack: str = "transformer_blocks") -> tuple[str, ...]:
    return tuple(f"{stack}.{index}" for index in range(count))


@pytest.mark.parametrize(
    ("name", "family", "layers"),
    [
        ("sd15", UNetBackbone, SD15_LAYERS),
        ("sdxl", SDXLBackbone, SDXL_LAYERS),
        ("pixart-sigma", DiTBackbone, blocks(28)),
        ("hunyuandit", HunyuanDiTBackbone, blocks(40, "blocks")),
        ("flux-dev", FluxBackbone, blocks(19) + blocks(38, "single_transformer_blocks")),
    ],
)
def test_derived_settings_reproduce_the_published_ones(name, family, layers):
    derived, spec = family.derive_settings(layers), MODELS[name]
    assert vars(derived).items() <= vars(spec).items()


@pytest.mark.parametrize("family", [DiTBackbone, FluxBackbone])
@pytest.mark.parametrize("count", range(1, 9))
def test_derived_settings_exist_for_any_depth(family, count):
    settings = family.derive_settings(blocks(count))
    assert settings.reference_layer in blocks(count)
    assert settings.refine_layers and set(settings.refine_layers) <= set(blocks(count))


def test_published_layers_are_layers_of_the_model():
    for name in ("sd15", "sd21"):
        spec = MODELS[name]
        assert {spec.reference_layer, *spec.refine_layers, *spec.manual_layers} <= set(SD15_LAYERS)
        assert len(spec.manual_layers) == 8
    published = ["sd15", "sdxl", "pixart-alpha", "pixart-sigma", "flux-dev", "hunyuandit"]
    assert [spec.name for spec in list_models() if spec.published] == published
    assert [spec.name for spec in list_models()] == list(MODELS) and list_models()[0].name == DEFAULT_MODEL


def test_published_plain_averages_take_layers_of_their_own():
    sigma, flux = MODELS["pixart-sigma"], MODELS["flux-dev"]
    assert sigma.vanilla_layers == blocks(28)[10:18] and sigma.vanilla_refine_layers is None
    counted = blocks(19) + blocks(38, "single_transformer_blocks")
    assert flux.vanilla_layers == flux.vanilla_refine_layers == tuple(counted[index] for index in (8, 28, 47))
    for name in ("sd15", "sdxl", "pixart-alpha", "hunyuandit"):
        assert MODELS[name].vanilla_layers is MODELS[name].vanilla_refine_layers is None
    assert MODELS["hunyuandit"].cross_layers == blocks(40, "blocks")[20:30]


def test_relatives_of_published_models():
    base, sigma, hunyuan = (MODELS[name] for name in ("sd21-base", "pixart-sigma-512", "hunyuandit-v1.2"))
    assert base.source.endswith("stable-diffusion-2-1-base") and base.image_size == 512
    assert sigma.source.endswith("512-MS") and sigma.image_size == 512 and sigma.cross_layers == blocks(28)[10:18]
    assert MODELS["hunyuandit"].source == "Tencent-Hunyuan/HunyuanDiT-Diffusers"
    assert hunyuan.timestep == 81 and hunyuan.refine_layers == MODELS["hunyuandit"].refine_layers


def test_a_denoiser_alone_takes_the_other_parts_from_another_pipeline(monkeypatch, tmp_path, dit_folder):
    other = tiny.dit.build(seed=7)
    other.transformer.save_pretrained(tmp_path / "transformer")
    spec = replace(
        MODELS["pixart-sigma-512"],
        source=str(tmp_path),
        rest_source=str(dit_folder),
        reference_layer="transformer_blocks.2",
    )
    monkeypatch.setitem(MODELS, spec.name, spec)
    loaded = load(spec.name, device="cpu")
    for found, expected in zip(loaded.backbone.denoiser.parameters(), other.transformer.parameters(), strict=True):
        assert torch.equal(found, expected)
    (tmp_path / "transformer" / "config.json").unlink()
    with pytest.raises(OSError, match="could not be loaded completely"):
        load(spec.name, device="cpu")


def test_unknown_name_lists_the_names():
    message = (
        r"unknown model 'scenes-dot' \(did you mean 'scenes-dit'\?\); choose one of scenes-dit, .*, or an existing"
    )
    with pytest.raises(ValueError, match=message):
        load("scenes-dot")


def test_missing_packaged_weights_are_reported(monkeypatch, tmp_path):
    monkeypatch.setitem(MODELS, "scenes-dit", replace(MODELS["scenes-dit"], source=str(tmp_path / "gone")))
    with pytest.raises(ValueError, match="weights of scenes-dit are missing from this installation; reinstall"):
        load("scenes-dit")


def test_folder_without_a_pipeline(tmp_path):
    with pytest.raises(ValueError, match=r"has no model_index\.json; give the folder that pipeline\.save_pretrained"):
        load(str(tmp_path))


def test_unsupported_pipeline_class_lists_the_supported(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    message = r"unknown pipeline class of .* 'KandinskyPipeline'.*; choose one of StableDiffusionPipeline, .* register"
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path))


def test_offline_without_a_cached_copy_says_how_to_go_on(monkeypatch, tmp_path):
    def no_network(*_args, **_kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    with pytest.raises(
        OSError, match=r"owner/name is not in the local cache and .*--local-dir FOLDER' and give that folder"
    ):
        load("owner/name")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(GatedRepoError, 403), "owner/name is gated; accept its licence at https://huggingface.co/owner/name"),
        (refusal(RepositoryNotFoundError, 404), "owner/name .* is not on the Hugging Face hub; check the spelling"),
        (LocalEntryNotFoundError("no such file"), "cannot be reached"),
        (EntryNotFoundError("no such file"), "no diffusers pipeline"),
        (refusal(HfHubHTTPError, 500), r"owner/name could not be loaded completely \(refused\); try again"),
    ],
)
def test_hub_errors_say_what_to_do(monkeypatch, error, message):
    def fail(*_args, **_kwargs) -> Path:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(OSError, match=message):
        load("owner/name")


def test_sd3_saved_without_t5_is_loaded(tmp_path):
    folder = parts.save(tiny.sd3.build(t5=False), tmp_path)
    loaded = load(str(folder), device="cpu")
    assert loaded.pipeline.text_encoder_3 is None and loaded.backbone.max_tokens == 16


def test_offloading_needs_an_accelerator(dit_folder):
    with pytest.raises(ValueError, match="leave it out on a CPU"):
        load(str(dit_folder), device="cpu", offload="model")
    with pytest.raises(ValueError, match="unknown offloading 'half'; choose one of model, sequential"):
        load(str(dit_folder), device="cpu", offload="half")


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors is no checkpoint that diffusers can read"):
        load(str(path), device="cpu")


def test_a_single_file_needs_the_configuration_of_its_kind(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}, path)
    with pytest.raises(OSError, match="stable-diffusion-v1-5 is not in the local cache"):
        load(str(path), device="cpu")


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("unet", "tokenizer"),
        ("unet", "tokenizer/tokenizer.json"),
        ("dit", "tokenizer"),
        ("dit", "tokenizer/tokenizer.json"),
        ("sdxl", "tokenizer_2"),
        ("sd3", "tokenizer_3"),
        ("qwenimage", "tokenizer/tokenizer.json"),
    ],
)
def test_a_folder_without_its_tokenizer_is_refused(family, missing, tmp_path):
    path = parts.save(tiny.FAMILIES[family].build(), tmp_path) / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    sentence = rf"lacks its words: files of {missing.split('/')[0]}/ are missing|could not be loaded"
    with pytest.raises((ValueError, OSError), match=sentence):
        load(str(tmp_path), device="cpu")


def test_a_tokenizer_that_lacks_one_of_its_files_is_refused(tmp_path):
    """Without its merges CLIP's tokenizer spells every word."""
    pipeline = tiny.unet.build()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).touch()
    pipeline.tokenizer.name_or_path = str(tmp_path)
    wrap("tiny", pipeline)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ValueError, match="the tokenizer of tiny lacks its words"):
        wrap("tiny", pipeline)


@pytest.mark.parametrize("missing", ["unet", "vae", "scheduler", "text_encoder", "tokenizer"])
def test_a_pipeline_in_memory_without_a_part_is_refused(missing):
    pipeline = tiny.unet.build()
    setattr(pipeline, missing, None)
    with pytest.raises(ValueError, match=f"mine has no {missing}, without which nothing can be segmented"):
        wrap("mine", pipeline)


def test_sd3_may_lack_t5():
    pipeline = tiny.sd3.build()
    pipeline.text_encoder_3 = pipeline.tokenizer_3 = None
    assert wrap("tiny", pipeline).backbone.max_tokens == parts.TEXT_LENGTH
