"""What every family must do, on its tiny pipeline; tests of one family alone are in files of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate import cpu_offload
from tiny import parts
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from goca.backbones import Backbone, Conditioning
from goca.maps import aggregate_heads
from goca.maps.attention import cross_attention, self_attention
from goca.models import load, wrap
from goca.text.prompt import build_prompt
from goca.types import JointRecord, LayerRecord


@dataclass
class Recording:
    """Everything a pass handed out."""

    prediction: torch.Tensor
    records: dict[tuple[int, str], LayerRecord] = field(default_factory=dict)
    order: list[tuple[int, str]] = field(default_factory=list)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def images(*seeds: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.stack([torch.rand(3, height, width, generator=each) * 2 - 1 for each in generators(*seeds)])


def noisy(backbone: Backbone, seeds: list[int], **size: int) -> torch.Tensor:
    return backbone.add_noise(backbone.encode_image(images(*seeds, **size)), 100, generators(*seeds))


def record(backbone: Backbone, texts: list[str], seeds: list[int], layers=None, **size: int) -> Recording:
    latents = noisy(backbone, seeds, **size)
    recording = Recording(latents)

    def keep(image: int, layer: LayerRecord) -> None:
        recording.order.append((image, layer.name))
        recording.records[image, layer.name] = layer

    recording.prediction = backbone.record(latents, 100, backbone.encode_prompt(texts), keep, layers)
    return recording


def cross_map(layer: LayerRecord) -> torch.Tensor:
    """Cross-attention probabilities, heads x pixels x tokens."""
    return cross_attention(layer).probabilities(slice(None))


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Kernels(TorchFunctionMode):
    """Keeps what every fused attention call was given and returned."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            self.calls.append((given["query"], given["key"], given["value"], output))
        return output


def test_saved_folder_is_loaded_by_its_own_index(pipeline, tmp_path: Path):
    folder = parts.save(pipeline, tmp_path)
    loaded = load(str(folder), device="cpu")
    original = wrap("tiny", pipeline)
    assert type(loaded.backbone) is type(original.backbone)
    assert set(loaded.spec.refine_layers) <= set(loaded.backbone.layers) == set(original.backbone.layers)
    first, second = (record(each.backbone, ["cat, grass"], [3]) for each in (loaded, original))
    torch.testing.assert_close(first.prediction, second.prediction)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24)])
def test_recorded_attention_times_values_is_what_the_kernel_returned(backbone, height, width):
    kernels = Kernels()
    with kernels:
        recording = record(backbone, ["cat, grass", "dog"], [3, 4], height=height, width=width)
    for (image, _), layer in recording.records.items():
        query, key, value, output = next(call for call in kernels.calls if belongs(layer.cross_query, call[0]))
        pixels = layer.cross_query.shape[1]
        start = (layer.cross_query.data_ptr() - query[image].data_ptr()) // layer.cross_query.element_size()
        start //= query.stride(2)
        expected = output[image][:, start : start + pixels]
        values = value[image].float()
        mixed = cross_map(layer)
        if isinstance(layer, JointRecord):
            text, own = (rows_of(part, key[image]) for part in (layer.cross_key, layer.image_key))
            if layer.cross_value is not None:
                assert torch.equal(layer.cross_value, value[image][:, text])
            rebuilt = mixed @ values[:, text] + self_attention(layer).probabilities(slice(None)) @ values[:, own]
        else:
            assert torch.equal(layer.cross_value, value[image])
            rebuilt = mixed @ values
        torch.testing.assert_close(rebuilt, expected, atol=1e-5, rtol=1e-4)


def test_recorded_projection_is_what_the_image_tokens_pass(backbone):
    """The kernel's output times W, plus the bias, is what the attention module returns for the image."""
    kernels, returned = Kernels(), {}
    handles = [
        watched(backbone, layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: returned.setdefault(layer, output)
        )
        for layer in backbone.layers
    ]
    with kernels:
        recording = record(backbone, ["cat, grass"], [3])
    for handle in handles:
        handle.remove()
    for (_, name), layer in recording.records.items():
        assert (layer.projection is None) == (layer.cross_value is None)
        if layer.projection is None:
            assert name.startswith("single_transformer_blocks")  # FLUX's kind, whose heads are projected with the MLP
            continue
        query, _, _, output = next(call for call in kernels.calls if belongs(layer.cross_query, call[0]))
        start = (layer.cross_query.data_ptr() - query[0].data_ptr()) // layer.cross_query.element_size()
        start //= query.stride(2)
        heads = output[0][:, start : start + layer.cross_query.shape[1]].transpose(0, 1).flatten(1)
        bias = watched(backbone, name).to_out[0].bias
        projected = heads @ layer.projection.weight.T + (0 if bias is None else bias)
        expected = returned[name][0] if isinstance(returned[name], tuple) else returned[name]
        expected = expected[0] if len(expected[0]) == len(projected) else expected[0, start : start + len(projected)]
        torch.testing.assert_close(projected, expected, atol=1e-5, rtol=1e-4)


def watched(backbone: Backbone, layer: str) -> nn.Module:
    """The module of a layer in which the image looks at the text."""
    modules = backbone.attention_modules(layer)
    return modules.get("joint") or modules["cross"]


def rows_of(part: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Which of a kernel's keys each key of a part is."""
    same = (part[:, :, None] == keys[:, None]).all(-1).all(0)
    assert same.any(1).all()
    return same.int().argmax(1)


def belongs(view: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether one tensor is a part of another's memory."""
    return view.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()


def test_recording_changes_no_bit_and_leaves_no_hook(backbone):
    before = hooks(backbone.denoiser)
    recording = record(backbone, ["cat, grass"], [3])
    plain = backbone.denoise(noisy(backbone, [3]), 100, backbone.encode_prompt(["cat, grass"]))
    assert torch.equal(recording.prediction, plain)
    assert hooks(backbone.denoiser) == before


def test_records_stream_in_forward_order_for_every_image(backbone):
    recording = record(backbone, ["cat", "dog"], [1, 2])
    assert recording.order == [(image, layer) for layer in backbone.layers for image in (0, 1)]


def test_batch_gives_each_image_what_its_own_run_gives(backbone):
    texts, seeds = ["cat, palm tree, grass", "dog"], [5, 6]
    for part in backbone.pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(torch.float64)
    both = record(backbone, texts, seeds)
    for image in (0, 1):
        alone = record(backbone, [texts[image]], [seeds[image]])
        torch.testing.assert_close(both.prediction[image], alone.prediction[0], atol=1e-6, rtol=1e-6)
        for name in backbone.layers:
            left, right = both.records[image, name], alone.records[0, name]
            torch.testing.assert_close(cross_map(left), cross_map(right), atol=1e-6, rtol=1e-6)
            own = "image_key" if isinstance(left, JointRecord) else "self_key"
            assert (getattr(left, own) is not None) == backbone.self_maps
            torch.testing.assert_close(getattr(left, own), getattr(right, own), atol=1e-6, rtol=1e-6)


def test_only_the_asked_layers_are_recorded(backbone):
    recording = record(backbone, ["cat"], [3], layers=(backbone.layers[2], backbone.layers[0]))
    assert [name for _, name in recording.order] == [backbone.layers[0], backbone.layers[2]]


def test_only_the_asked_images_are_recorded(backbone):
    whole = record(backbone, ["a dog", "a cat"], [3, 4])
    latents, seen = noisy(backbone, [3, 4]), {}
    with torch.no_grad(), backbone.recording(latents.shape[-2:], lambda *each: seen.setdefault(*each), images=[1]):
        backbone.denoise(latents, 100, backbone.encode_prompt(["a dog", "a cat"]))
    assert list(seen) == [1]
    assert torch.equal(seen[1].cross_query, whole.records[1, backbone.layers[0]].cross_query)


def test_unknown_layers_are_refused(backbone, pipeline):
    with pytest.raises(ValueError, match=f"unknown layer 'nowhere'; choose one of {re.escape(backbone.layers[0])}"):
        record(backbone, ["cat"], [3], layers=("nowhere",))
    with pytest.raises(ValueError, match=r"unknown reference layer 'nowhere'; choose one of"):
        type(backbone)(pipeline, "nowhere")


def test_exception_in_the_receiver_leaves_no_hook(backbone):
    before = hooks(backbone.denoiser)
    latents, conditioning = noisy(backbone, [3]), backbone.encode_prompt(["cat"])
    with pytest.raises(ZeroDivisionError):
        backbone.record(latents, 100, conditioning, lambda image, layer: 1 / 0)
    assert hooks(backbone.denoiser) == before


def test_only_the_reference_layer_has_features_one_row_for_each_pixel(backbone):
    recording = record(backbone, ["cat", "dog"], [3, 4])
    for (_, name), layer in recording.records.items():
        if name != backbone.reference_layer:
            assert layer.reference is None
            continue
        assert layer.reference.shape[0] == layer.cross_query.shape[1]
        assert layer.reference.std() > 0
    first, second = (recording.records[image, backbone.reference_layer].reference for image in (0, 1))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (40, 24)])
def test_non_square_grids(backbone, family, height, width):
    recording = record(backbone, ["cat"], [3], height=height, width=width)
    side = tiny.FAMILIES[family].PIXELS_PER_TOKEN
    for layer in recording.records.values():
        assert layer.cross_query.shape[1] == layer.grid[0] * layer.grid[1]
    assert max(layer.grid for layer in recording.records.values()) == (height // side, width // side)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_token_positions_land_on_the_right_words(backbone, family, place):
    """Change the features that one word's keys are made of: of all recorded keys, that word's must change most."""
    prompt = build_prompt(["palm tree", "cat", "fire engine"], backbone.token_spans, max_length=backbone.max_tokens)
    tokens = list(prompt.classes[place].tokens)
    conditioning = backbone.encode_prompt([prompt.text])

    def keys(changed: Conditioning) -> torch.Tensor:
        kept: list[LayerRecord] = []
        backbone.record(noisy(backbone, [3]), 100, changed, lambda _, layer: kept.append(layer), backbone.layers[:1])
        return kept[0].cross_key

    poke = getattr(tiny.FAMILIES[family], "poke", poke_embeddings)
    change = (keys(poke(conditioning, tokens)) - keys(conditioning)).abs().sum((0, 2))
    assert set(change.topk(len(tokens)).indices.tolist()) == set(tokens)
    others = [position for position in range(len(change)) if position not in tokens]
    assert change[tokens].min() > 2 * change[others].max()


def poke_embeddings(conditioning: Conditioning, tokens: list[int]) -> Conditioning:
    embeddings = conditioning.embeddings.clone()
    embeddings[:, tokens] = -embeddings[:, tokens]
    return replace(conditioning, embeddings=embeddings)


def test_compiled_denoiser_is_recorded_all_the_same(backbone, pipeline):
    expected = record(backbone, ["cat"], [3])
    name = backbone.denoiser_name
    setattr(pipeline, name, torch.compile(getattr(pipeline, name), backend="eager"))
    compiled = type(backbone)(pipeline, backbone.reference_layer)
    assert compiled.layers == backbone.layers
    assert torch.equal(record(compiled, ["cat"], [3]).prediction, expected.prediction)


def test_offloaded_denoiser_gives_the_same_records(backbone, family):
    expected = record(backbone, ["cat"], [3])
    latents, conditioning = noisy(backbone, [3]), backbone.encode_prompt(["cat"])
    cpu_offload(backbone.denoiser, execution_device=torch.device("cpu"))
    if not getattr(tiny.FAMILIES[family], "OFFLOADS", True):
        with pytest.raises(RuntimeError, match="meta"):
            backbone.denoise(latents, 100, conditioning)
        return
    offloaded = record(backbone, ["cat"], [3])
    assert torch.equal(offloaded.prediction, backbone.denoise(latents, 100, conditioning))
    assert_same_maps(backbone, offloaded, expected)


def assert_same_maps(backbone: Backbone, offloaded: Recording, plain: Recording) -> None:
    """Within float32 rounding: offloaded weights may lie elsewhere in memory, where a product rounds otherwise."""
    for layer in backbone.layers:
        left, right = offloaded.records[0, layer], plain.records[0, layer]
        torch.testing.assert_close(cross_map(left), cross_map(right), atol=1e-5, rtol=1e-4)
        for rule in ("average", "dot-product w/o clamp"):
            torch.testing.assert_close(aggregate_heads(left, rule), aggregate_heads(right, rule), atol=1e-5, rtol=1e-4)


def test_denoiser_offloaded_to_disk_gives_the_same_records(backbone, tmp_path):
    expected = record(backbone, ["cat"], [3])
    here, denoiser = torch.device("cpu"), backbone.denoiser
    settings = {"offload_type": "leaf_level", "offload_to_disk_path": str(tmp_path)}
    if not denoiser._supports_group_offloading:
        with pytest.raises(ValueError, match="does not support group offloading"):
            denoiser.enable_group_offload(here, here, **settings)
        return
    denoiser.enable_group_offload(here, here, **settings)
    offloaded = record(backbone, ["cat"], [3])
    unrecorded = backbone.denoise(noisy(backbone, [3]), 100, backbone.encode_prompt(["cat"]))
    assert torch.equal(offloaded.prediction, unrecorded)
    assert_same_maps(backbone, offloaded, expected)


def test_noising_refuses_wrong_inputs(backbone):
    latents = backbone.encode_image(images(1, 2))
    with pytest.raises(ValueError, match="one generator per image: got 1 for 2"):
        backbone.add_noise(latents, 100, generators(1))
    steps = backbone.pipeline.scheduler.config.num_train_timesteps
    with pytest.raises(ValueError, match=rf"must be from (0 to {steps - 1}|1 to {steps}), got {steps + 1}"):
        backbone.add_noise(latents, steps + 1, generators(1, 2))


def test_image_sides_must_fit(backbone):
    multiple = backbone.size_multiple
    with pytest.raises(ValueError, match=f"33 x 32 pixels; resize it so that both sides are multiples of {multiple}"):
        backbone.encode_image(images(3, height=33))


def test_stopping_early_gives_the_same_records_and_leaves_no_hook(backbone):
    ran: list[str] = []
    handle = backbone.denoiser.get_submodule(backbone.layers[-1]).register_forward_hook(lambda *_: ran.append("last"))
    before = hooks(backbone.denoiser)
    exact = record(backbone, ["cat", "dog"], [3, 4], layers=backbone.layers[:2])
    assert ran
    ran.clear()
    kept: dict[tuple[int, str], LayerRecord] = {}
    conditioning = backbone.encode_prompt(["cat", "dog"])

    def keep(image: int, layer: LayerRecord) -> None:
        kept[image, layer.name] = layer

    prediction = backbone.record(noisy(backbone, [3, 4]), 100, conditioning, keep, backbone.layers[:2], stop_early=True)
    assert prediction is None and not ran and hooks(backbone.denoiser) == before
    handle.remove()
    for key, layer in exact.records.items():
        assert torch.equal(cross_map(layer), cross_map(kept[key]))
