from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import tiny
import torch
from torch import nn

from goca.backbones import Backbone, DiTBackbone, UNetBackbone
from goca.backbones.base import output_projection
from goca.prompt import build_prompt
from goca.types import LayerRecord


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


def record(backbone: Backbone, texts: list[str], seeds: list[int], layers=None, **size: int) -> Recording:
    latents = backbone.add_noise(backbone.encode_image(images(*seeds, **size)), 100, generators(*seeds))
    conditioning = backbone.encode_prompt(texts)
    recording = Recording(latents)

    def keep(image: int, layer: LayerRecord) -> None:
        recording.order.append((image, layer.name))
        recording.records[image, layer.name] = layer

    recording.prediction = backbone.record(latents, 100, conditioning, keep, layers)
    return recording


def cross_map(layer: LayerRecord) -> torch.Tensor:
    """Cross-attention probabilities, heads x pixels x tokens."""
    scale = layer.cross_scale or 1 / math.sqrt(layer.cross_query.shape[-1])
    scores = scale * layer.cross_query @ layer.cross_key.mT
    return (scores if layer.cross_mask is None else scores + layer.cross_mask).softmax(-1)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_recording_changes_no_bit_and_leaves_no_hook(backbone):
    before = hooks(backbone.denoiser)
    recording = record(backbone, ["cat, grass"], [3])
    latents = backbone.add_noise(backbone.encode_image(images(3)), 100, generators(3))
    assert torch.equal(recording.prediction, backbone.denoise(latents, 100, backbone.encode_prompt(["cat, grass"])))
    assert hooks(backbone.denoiser) == before


def test_exception_in_the_receiver_leaves_no_hook(backbone):
    before = hooks(backbone.denoiser)
    latents, conditioning = torch.zeros(1, 4, 16, 16), backbone.encode_prompt(["cat"])
    with pytest.raises(ZeroDivisionError):
        backbone.record(latents, 100, conditioning, lambda image, layer: 1 / 0)
    assert hooks(backbone.denoiser) == before


def test_records_stream_in_forward_order_for_every_image(backbone):
    recording = record(backbone, ["cat", "dog"], [1, 2])
    assert recording.order == [(image, layer) for layer in backbone.layers for image in (0, 1)]


def test_forward_order_of_the_unet_is_down_mid_up(backbone, family):
    if family == "unet":
        stages = [layer.split(".transformer")[0] for layer in backbone.layers]
        assert stages == [
            "down_blocks.0.attentions.0",
            "down_blocks.1.attentions.0",
            "mid_block.attentions.0",
            "up_blocks.1.attentions.0",
            "up_blocks.1.attentions.1",
            "up_blocks.2.attentions.0",
            "up_blocks.2.attentions.1",
        ]
    else:
        assert backbone.layers == ("transformer_blocks.0", "transformer_blocks.1", "transformer_blocks.2")


def test_record_rebuilds_the_output_of_the_attention_module(backbone):
    outputs: dict[str, torch.Tensor] = {}
    for layer in backbone.layers:
        attention = backbone.denoiser.get_submodule(layer).attn2
        attention.register_forward_hook(lambda _m, _i, out, layer=layer: outputs.__setitem__(layer, out))
    recording = record(backbone, ["cat, grass", "dog"], [3, 4])
    for (image, name), layer in recording.records.items():
        mixed = (cross_map(layer) @ layer.cross_value).transpose(0, 1).flatten(1)
        bias = backbone.denoiser.get_submodule(name).attn2.to_out[0].bias
        rebuilt = mixed @ layer.projection.weight.T + bias
        torch.testing.assert_close(rebuilt, outputs[name][image], atol=1e-5, rtol=1e-5)


def test_self_attention_is_that_of_the_same_block(backbone):
    layer = backbone.layers[1]
    attention, seen = backbone.denoiser.get_submodule(layer).attn1, []
    attention.to_q.register_forward_hook(lambda _m, _i, out: seen.append(out))
    recording = record(backbone, ["cat"], [3])
    query = recording.records[0, layer].self_query.transpose(0, 1).flatten(1)
    assert torch.equal(query, seen[0][0])
    assert recording.records[0, layer].self_key.shape == recording.records[0, layer].self_query.shape


def test_reference_features_are_the_query_of_the_reference_layer_alone(backbone):
    recording = record(backbone, ["cat", "dog"], [3, 4])
    for (_, name), layer in recording.records.items():
        if name == backbone.reference_layer:
            torch.testing.assert_close(layer.reference, layer.cross_query.transpose(0, 1).flatten(1), atol=0, rtol=0)
        else:
            assert layer.reference is None


@pytest.mark.parametrize(("height", "width"), [(32, 48), (40, 24)])
def test_non_square_grids(backbone, family, height, width):
    recording = record(backbone, ["cat"], [3], height=height, width=width)
    rows, columns = height // 2, width // 2
    for layer in recording.records.values():
        assert layer.cross_query.shape[1] == layer.grid[0] * layer.grid[1]
        if family == "dit":
            assert layer.grid == (rows // 2, columns // 2)
    if family == "unet":
        grids = [recording.records[0, name].grid for name in backbone.layers]
        half, quarter = (rows // 2, columns // 2), (rows // 4, columns // 4)
        assert grids == [(rows, columns), half, quarter, half, half, (rows, columns), (rows, columns)]


def test_odd_latent_sizes_of_the_unet_round_as_the_model_does():
    backbone = UNetBackbone(tiny.unet_pipeline(), "up_blocks.1.attentions.1.transformer_blocks.0")
    recording = record(backbone, ["cat"], [3], height=36, width=30)
    grids = [recording.records[0, name].grid for name in backbone.layers]
    assert grids == [(18, 15), (9, 8), (5, 4), (9, 8), (9, 8), (18, 15), (18, 15)]


def test_batch_gives_each_image_what_its_own_run_gives(backbone):
    texts, seeds = ["cat, palm tree, grass", "dog"], [5, 6]
    for part in (backbone.pipeline.vae, backbone.pipeline.text_encoder, backbone.denoiser):
        part.to(torch.float64)
    both = record(backbone, texts, seeds)
    for image in (0, 1):
        alone = record(backbone, [texts[image]], [seeds[image]])
        torch.testing.assert_close(both.prediction[image], alone.prediction[0], atol=1e-6, rtol=1e-6)
        for name in backbone.layers:
            left, right = both.records[image, name], alone.records[0, name]
            torch.testing.assert_close(cross_map(left), cross_map(right), atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(left.self_key, right.self_key, atol=1e-6, rtol=1e-6)


def test_masked_tokens_get_no_attention(backbone, family):
    layer = record(backbone, ["cat"], [3]).records[0, backbone.layers[0]]
    if family == "dit":
        assert cross_map(layer)[..., 2:].max() == 0
    else:
        assert layer.cross_mask is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_token_positions_land_on_the_right_words(backbone, family, place):
    """Change the features that one word's keys are made of: that word's recorded keys must change, and no others."""
    classes = ["palm tree", "cat", "fire engine"]
    prompt = build_prompt(classes, backbone.tokenizer, max_length=backbone.max_tokens)
    latents = backbone.add_noise(backbone.encode_image(images(3)), 100, generators(3))
    conditioning = backbone.encode_prompt([prompt.text])
    word = prompt.text.split(", ")[place]
    start = prompt.text.index(word)
    encoding = backbone.tokenizer(prompt.text, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    spoken = [
        i for i, (a, b) in enumerate(encoding["offset_mapping"]) if a < b and start <= a and b <= start + len(word)
    ]
    assert prompt.classes[place].tokens == tuple(spoken)
    assert max(spoken) < len(ids)

    def keys(embeddings: torch.Tensor) -> torch.Tensor:
        kept: list[LayerRecord] = []
        changed = type(conditioning)(embeddings, conditioning.mask)
        backbone.record(latents, 100, changed, lambda _, layer: kept.append(layer), backbone.layers[:1])
        return kept[0].cross_key

    poked = conditioning.embeddings.clone()
    poked[:, spoken] = -poked[:, spoken]
    difference = (keys(poked) - keys(conditioning.embeddings)).abs().sum((0, 2))
    assert set(difference.nonzero().flatten().tolist()) == set(prompt.classes[place].tokens)


def test_only_the_asked_layers_are_recorded(backbone):
    recording = record(backbone, ["cat"], [3], layers=(backbone.layers[2], backbone.layers[0]))
    assert [name for _, name in recording.order] == [backbone.layers[0], backbone.layers[2]]


def test_unknown_layers_are_refused(backbone, pipeline):
    with pytest.raises(ValueError, match=r"Unknown layers nowhere; choose from .*transformer_blocks\.0"):
        record(backbone, ["cat"], [3], layers=("nowhere",))
    with pytest.raises(ValueError, match=r"Unknown reference layer 'nowhere'; choose one of"):
        type(backbone)(pipeline, "nowhere")


def test_noising_follows_the_training_schedule(backbone):
    latents, steps = torch.full((1, 4, 16, 16), 2.0), backbone.pipeline.scheduler
    noise = torch.randn(4, 16, 16, generator=generators(7)[0])
    kept = steps.alphas_cumprod[100]
    expected = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    torch.testing.assert_close(backbone.add_noise(latents, 100, generators(7)), expected)


def test_noising_refuses_wrong_inputs(backbone):
    latents = torch.zeros(2, 4, 16, 16)
    with pytest.raises(ValueError, match="one generator per image: got 1 for 2"):
        backbone.add_noise(latents, 100, generators(1))
    with pytest.raises(ValueError, match="from 0 to 999, got 1000"):
        backbone.add_noise(latents, 1000, generators(1, 2))


def test_encoded_image_is_the_scaled_mode(backbone):
    vae = backbone.pipeline.vae
    vae.register_to_config(shift_factor=0.25)
    with torch.no_grad():
        mode = vae.encode(images(3)).latent_dist.mean
    torch.testing.assert_close(backbone.encode_image(images(3)), (mode - 0.25) * vae.config.scaling_factor)


def test_image_sides_must_fit(backbone):
    multiple = backbone.size_multiple
    with pytest.raises(ValueError, match=f"33 x 32 pixels; resize it so that both sides are multiples of {multiple}"):
        backbone.encode_image(images(3, height=33))


def test_prompts_are_encoded_as_the_pipeline_does(backbone, family):
    conditioning = backbone.encode_prompt(["cat", "a dog, grass"])
    ids = backbone.tokenizer(["cat", "a dog, grass"], padding="max_length", max_length=16, return_tensors="pt")
    mask = ids.attention_mask if family == "dit" else None
    with torch.no_grad():
        expected = backbone.pipeline.text_encoder(ids.input_ids, attention_mask=mask)[0]
    torch.testing.assert_close(conditioning.embeddings, expected)
    assert (conditioning.mask is None) == (family == "unet")


def test_compiled_denoiser_is_recorded_all_the_same(backbone, pipeline, family):
    expected = record(backbone, ["cat"], [3])
    name = "unet" if family == "unet" else "transformer"
    setattr(pipeline, name, torch.compile(getattr(pipeline, name), backend="eager"))
    compiled = type(backbone)(pipeline, backbone.reference_layer)
    assert compiled.layers == backbone.layers
    assert torch.equal(record(compiled, ["cat"], [3]).prediction, expected.prediction)


def test_offloaded_weights_go_through_the_module(backbone, family):
    from accelerate import cpu_offload

    expected = record(backbone, ["cat"], [3])
    cpu_offload(backbone.denoiser, execution_device=torch.device("cpu"))
    offloaded = record(backbone, ["cat"], [3])
    assert torch.equal(offloaded.prediction, expected.prediction)
    projection = offloaded.records[0, backbone.layers[0]].projection
    assert projection.weight is None
    mixed = torch.ones(3, expected.records[0, backbone.layers[0]].projection.weight.shape[1])
    plain = mixed @ expected.records[0, backbone.layers[0]].projection.weight.T
    forward = projection.forward
    torch.testing.assert_close(forward(mixed) - forward(torch.zeros_like(mixed)), plain, atol=1e-5, rtol=1e-5)


def test_projection_of_another_class_is_used_through_its_forward(backbone):
    class WithAdapter(nn.Linear):
        pass

    attention = backbone.denoiser.get_submodule(backbone.layers[0]).attn2
    assert output_projection(attention).weight is not None
    attention.to_out[0] = WithAdapter(24, 24)
    assert output_projection(attention).weight is None
    assert output_projection(attention).forward is attention.to_out[0]


def test_micro_conditions_are_pixels_and_ratio_where_the_model_wants_them():
    pipeline = tiny.dit_pipeline(micro_conditions=True)
    seen = []
    pipeline.transformer.adaln_single.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[1]))
    record(DiTBackbone(pipeline, "transformer_blocks.1"), ["cat", "dog"], [3, 4], height=32, width=64)
    assert seen[0]["resolution"].tolist() == [[32, 64], [32, 64]]
    assert seen[0]["aspect_ratio"].tolist() == [[0.5], [0.5]]
