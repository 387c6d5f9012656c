"""What people do to pipelines before they hand them over: pack their weights, put LoRA on top, tile the VAE."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from backbones.test_families import cross_map, record
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from tiny import parts
from torch.nn import functional as F

from goca.maps import aggregate_heads
from goca.models import load, wrap

LORA = LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)


class Packed(torch.Tensor):
    """A weight that, like those of quantisation libraries, can be multiplied with but not looked into."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.linear, torch.Tensor.dtype.__get__, torch.Tensor.device.__get__, torch.Tensor.is_meta.__get__):
            plain = [each.as_subclass(torch.Tensor) if isinstance(each, Packed) else each for each in args]
            return func(*plain, **(kwargs or {}))
        raise NotImplementedError(f"{func} of a packed weight")


@pytest.mark.parametrize("family", ["unet", "dit"])
def test_weights_that_cannot_be_looked_into_are_read_off_the_module(family: str) -> None:
    backbone = wrap("tiny", tiny.FAMILIES[family].build()).backbone
    exact = record(backbone, ["cat, grass"], [3])
    for layer in backbone.layers:
        linear = backbone.attention_modules(layer)["cross"].to_out[0]
        weight = linear.weight.detach().as_subclass(Packed)
        del linear.weight
        linear.weight = weight
    packed = record(backbone, ["cat, grass"], [3])
    for key, layer in exact.records.items():
        assert packed.records[key].projection.weight is None
        maps = aggregate_heads(packed.records[key]), aggregate_heads(layer)
        torch.testing.assert_close(*maps, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["unet", "dit"])
def test_lora_changes_the_projection_that_weighs_the_heads(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    backbone = wrap("tiny", pipeline).backbone
    before = record(backbone, ["cat, grass"], [3])
    torch.manual_seed(1)
    inject_adapter_in_model(LORA, backbone.denoiser)
    after = record(backbone, ["cat, grass"], [3])
    assert not torch.allclose(after.prediction, before.prediction)
    layer = after.records[0, backbone.layers[0]]
    assert layer.projection.weight is None
    attention = backbone.attention_modules(backbone.layers[0])["cross"].to_out[0]
    adapter = attention.lora_B["default"].weight @ attention.lora_A["default"].weight * attention.scaling["default"]
    merged = attention.base_layer.weight + adapter
    value = layer.cross_value
    probabilities = cross_map(layer)
    pieces = probabilities @ value @ merged.T.unflatten(0, (value.shape[0], -1))
    weights = (pieces * pieces.sum(0)).sum(-1)
    expected = (probabilities * (weights / weights.sum(0))[..., None]).sum(0)
    torch.testing.assert_close(aggregate_heads(layer), expected, rtol=0, atol=1e-3)


def test_a_lora_file_is_put_on_top(tmp_path: Path) -> None:
    pipeline = tiny.unet.build()
    folder = parts.save(pipeline, tmp_path / "model")
    plain = load(str(folder), device="cpu")
    pipeline.unet.add_adapter(LORA)
    pipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    adapted = load(str(folder), device="cpu", lora=str(tmp_path / "lora"))
    first, second = (record(model.backbone, ["cat"], [3]).prediction for model in (plain, adapted))
    assert not torch.allclose(first, second)


def test_tiling_the_vae_gives_nearly_the_same_latents() -> None:
    pipeline = tiny.unet.build()
    backbone = wrap("tiny", pipeline).backbone
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = backbone.encode_image(images)
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_sample_min_size, pipeline.vae.tile_latent_min_size = 32, 16
    tiled = backbone.encode_image(images)
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    assert torch.corrcoef(torch.stack([tiled.flatten(), whole.flatten()]))[0, 1] > 0.9
