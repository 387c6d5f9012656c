"""Explanations of tiny pipelines against the literal formulas, and the sums that shares and weights have."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from small import photo, tiny_model

from goca import Method, Segmenter
from goca.maps.resize import resize_maps
from goca.observation import ROLES, Explanation
from goca.types import LayerRecord

CLASSES = ["cat", "grass", "palm tree"]
TEXT = "a dog, cat and the grass, sky"
CAPTION = "a cat and the grass, a palm tree, sky."


def recorded(segmenter: Segmenter, image: Image.Image, text: str) -> dict[str, LayerRecord]:
    """The records of the forward that is explained."""
    backbone, timestep = segmenter.model.backbone, segmenter.resolve().views[0][0]
    noisy = backbone.add_noise(segmenter.encode([image]), timestep, [torch.Generator().manual_seed(0)])
    records: dict[str, LayerRecord] = {}
    with torch.inference_mode():
        backbone.record(
            noisy, timestep, backbone.encode_prompt([text]), lambda _, record: records.update({record.name: record})
        )
    return records


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    """Of the tiny UNet, with a caption that has words beside the classes, and a background."""
    return Segmenter(tiny_model("unet")).explain(photo(0), ["cat", "grass"], caption=TEXT, background=["sky"])


def test_layers_equal_the_literal_formulas(family: str) -> None:
    segmenter = Segmenter(tiny_model(family), Method(heads="dot-product w/o clamp"))
    explanation = segmenter.explain(photo(0), CLASSES)
    records = recorded(segmenter, photo(0), explanation.text)
    assert [layer.name for layer in explanation.layers] == [
        name for name in records if name in segmenter.resolve().cross_layers
    ]
    text = list(explanation.text_tokens)
    for layer in explanation.layers:
        record = records[layer.name]
        cross, _ = reference.attention(record, torch.float64)
        maps = reference.head_maps(record, cross, "dot-product w/o clamp")
        special = [token for token in range(cross.shape[-1]) if token not in text]
        for found, expected in ((layer.head_maps, cross), (layer.maps, maps)):
            seen = torch.cat([expected[..., text], expected[..., special].sum(dim=-1, keepdim=True)], dim=-1)
            expected_maps = seen.transpose(-1, -2).unflatten(-1, record.grid)
            torch.testing.assert_close(torch.from_numpy(found).double(), expected_maps, rtol=0, atol=1e-4)
        np.testing.assert_allclose(layer.head_weights.sum(axis=0), 1, atol=1e-4)
        np.testing.assert_allclose((layer.head_weights[:, None] * layer.head_maps).sum(axis=0), layer.maps, atol=1e-4)


def test_aggregated_maps_and_weights_equal_the_literal_method(family: str) -> None:
    segmenter = Segmenter(tiny_model(family), "paper")
    explanation = segmenter.explain(photo(1), CLASSES)
    chosen = segmenter.resolve()
    expected = reference.aggregate(
        list(recorded(segmenter, photo(1), explanation.text).values()),
        chosen.heads,
        chosen.layers,
        (16, 16),
        chosen.reference_layer,
        chosen.refine_layers,
        chosen.cross_layers,
    )
    torch.testing.assert_close(
        torch.from_numpy(explanation.token_maps).double(), expected.token_maps, rtol=0, atol=1e-4
    )
    for layer in explanation.layers:
        assert layer.weight == pytest.approx(float(expected.weights[layer.name]), abs=1e-4)


def test_aggregated_maps_are_the_weighted_sum_of_the_layers(family: str) -> None:
    explanation = Segmenter(tiny_model(family), Method(heads="average")).explain(photo(2), CLASSES)
    total = sum(
        layer.weight * resize_maps(torch.from_numpy(layer.maps), (16, 16)).numpy() for layer in explanation.layers
    )
    expected = total[:-1] / total.sum(axis=0)
    np.testing.assert_allclose(explanation.token_maps[list(explanation.text_tokens)], expected, atol=1e-5)


def test_sums_are_one(family: str) -> None:
    explanation = Segmenter(tiny_model(family)).explain(photo(3), CLASSES, caption=CAPTION)
    assert sum(explanation.shares.values()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(explanation.share_maps.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(explanation.token_maps.sum(axis=0), 1, atol=1e-5)
    assert sum(layer.weight for layer in explanation.layers) == pytest.approx(1, abs=1e-5)
    for layer in explanation.layers:
        np.testing.assert_allclose(layer.head_shares.sum(axis=1), 1, atol=1e-5)
        shares = explanation.layer_shares(layer.name)
        assert tuple(shares) == ROLES and sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert all(0 <= share <= 1 + 1e-6 for share in shares.values())
        whole = layer.head_maps.sum(axis=1)
        assert whole.max() <= 1 + 1e-5
        if explanation.model == "tiny" and family in ("unet", "sdxl", "dit", "hunyuandit", "sana", "kolors"):
            np.testing.assert_allclose(whole, 1, atol=1e-5)


def test_the_result_is_that_of_segmenting(family: str) -> None:
    segmenter = Segmenter(tiny_model(family), "plus")
    result, explanation = segmenter(photo(4), CLASSES, background=["sky"]), None
    explanation = segmenter.explain(photo(4), CLASSES, background=["sky"])
    assert explanation.classes == result.classes == (*CLASSES, "background")
    np.testing.assert_allclose(explanation.result.maps, result.maps, atol=1e-5)
    assert (explanation.result.labels == result.labels).mean() > 0.99
    assert explanation.notes == result.notes
    assert explanation.settings["views"] == 2


def test_shares_are_those_of_the_roles(explanation: Explanation) -> None:
    for role, share in zip(ROLES, explanation.share_maps, strict=True):
        tokens = [token.position for token in explanation.tokens if token.role == role]
        np.testing.assert_allclose(share, explanation.token_maps[tokens].sum(axis=0), atol=1e-6)


def test_attention_to_classes_and_background(explanation: Explanation) -> None:
    assert explanation.classes == ("cat", "grass", "background")
    for name, found in zip(("cat", "grass", "sky"), explanation.class_attention, strict=True):
        np.testing.assert_allclose(found, explanation.grid_map(name), atol=1e-7)


def test_roles_of_tokens(explanation: Explanation) -> None:
    assert explanation.text == TEXT
    by_text = {token.text: token.role for token in explanation.tokens}
    assert by_text["cat"] == by_text["grass"] == by_text["sky"] == by_text["dog"] == "content"
    assert by_text["a"] == by_text["the"] == by_text["and"] == by_text[","] == "stuff"
    assert by_text["<|startoftext|>"] == by_text["<|endoftext|>"] == "special"
    assert explanation.tokens[0].text == "<|startoftext|>"
    assert [token.position for token in explanation.tokens] == list(range(len(explanation.token_maps)))
    assert {token.concept for token in explanation.tokens} == {None, "cat", "grass", "sky"}


def test_a_word_is_the_mean_over_its_tokens(explanation: Explanation) -> None:
    assert list(explanation.words) == ["dog", "cat", "grass", "sky"]
    assert explanation.tokens_of("Dog") == explanation.words["dog"]
    both = explanation.words["dog"] + explanation.tokens_of(",")[:1] + explanation.words["cat"]
    assert explanation.tokens_of("dog, cat") == both
    expected = explanation.token_maps[list(both)].mean(axis=0)
    np.testing.assert_allclose(explanation.grid_map("dog, cat"), expected, atol=1e-7)
    layer = explanation.layers[1]
    places = [explanation.text_tokens.index(token) for token in both]
    np.testing.assert_allclose(explanation.grid_map("dog, cat", 1), layer.maps[places].mean(axis=0), atol=1e-7)
    expected = layer.head_maps[1][places].mean(axis=0)
    np.testing.assert_allclose(explanation.grid_map("dog, cat", layer.name, 1), expected, atol=1e-7)
    large = explanation.word_map("cat", 1, 0)
    assert large.shape == (30, 50)
    resized = resize_maps(torch.from_numpy(explanation.grid_map("cat", 1, 0))[None], (30, 50))[0].numpy()
    np.testing.assert_array_equal(large, resized)


def test_scores_at_a_pixel_are_those_of_the_large_maps(explanation: Explanation) -> None:
    for x, y in ((0, 0), (49, 29), (20, 7)):
        pixel = explanation.at(x, y)
        assert pixel.label == explanation.classes[explanation.result.labels[y, x]]
        assert pixel.tokens.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(pixel.scores, explanation.result.scores[:, y, x], atol=1e-5)
        (cat,) = explanation.words["cat"]
        assert pixel.tokens[cat] == pytest.approx(float(explanation.word_map("cat")[y, x]), abs=1e-6)
        for layer in explanation.layers:
            seen = explanation.text_tokens.index(cat)
            expected = float(explanation.word_map("cat", layer.name)[y, x])
            assert pixel.layers[layer.name][seen] == pytest.approx(expected, abs=1e-6)
            expected = float(explanation.word_map("cat", layer.name, 1)[y, x])
            assert pixel.heads[layer.name][1, seen] == pytest.approx(expected, abs=1e-6)
            assert pixel.head_weights[layer.name].sum() == pytest.approx(1, abs=1e-4)


def test_head_maps_are_kept_of_the_named_layers_alone() -> None:
    segmenter = Segmenter(tiny_model("unet"))
    explanation = segmenter.explain(photo(0), CLASSES, layers=[1])
    assert [layer.head_maps is not None for layer in explanation.layers] == [
        number == 1 for number in range(len(explanation.layers))
    ]
    whole = segmenter.explain(photo(0), CLASSES)
    np.testing.assert_array_equal(explanation.layers[0].maps, whole.layers[0].maps)
    with pytest.raises(ValueError, match=r"were not kept; name it in explain\(layers=\.\.\.\)"):
        explanation.grid_map("cat", 0, 0)


def test_special_tokens_have_their_names_or_none(family: str) -> None:
    explanation = Segmenter(tiny_model(family)).explain(photo(5), ["cat", "sky"])
    special = {token.text for token in explanation.tokens if token.role == "special"}
    assert special and special.isdisjoint({"cat", "sky", ",", ""})
    if family in ("unet", "dit", "flux"):
        assert "<special>" not in special


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"word": "horse"}, "the prompt has no word 'horse'; its words are dog, cat, grass, sky"),
        ({"word": ""}, "the prompt has no word ''"),
        (
            {"word": "cat", "layer": "mid"},
            "unknown aggregated layer 'mid'.*; choose one of down_blocks.*, or a number from 0",
        ),
        ({"word": "cat", "layer": 99}, "unknown aggregated layer '99'; choose one of down_blocks"),
        ({"word": "cat", "layer": -1}, "unknown aggregated layer '-1'; choose one of down_blocks"),
        ({"word": "cat", "layer": 0, "head": 2}, "has no head 2; choose one from 0 to 1"),
        ({"word": "cat", "layer": 0, "head": -1}, "has no head -1; choose one from 0 to 1"),
        ({"word": "cat", "head": 0}, "head 0 of which layer"),
    ],
)
def test_what_is_not_there_is_refused(explanation: Explanation, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explanation.word_map(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("pixel", [(50, 0), (0, 30), (-1, 0), (0, -1)])
def test_a_pixel_outside_the_image_is_refused(explanation: Explanation, pixel: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside the image of 50 x 30 pixels; give X from 0 to 49 and Y from 0 to 29"):
        explanation.at(*pixel)


def test_a_layer_that_is_not_aggregated_is_refused_before_the_forward() -> None:
    with pytest.raises(ValueError, match="unknown aggregated layer 'up'; choose one of"):
        Segmenter(tiny_model("unet")).explain(photo(0), CLASSES, layers=["up"])


def test_the_number_of_heads_is_known_before_the_forward(family: str) -> None:
    segmenter = Segmenter(tiny_model(family))
    explanation = segmenter.explain(photo(0), CLASSES)
    for layer in explanation.layers:
        assert segmenter.model.backbone.count_heads(layer.name) == layer.heads


def test_the_fast_mode_and_other_shapes_are_explained() -> None:
    segmenter = Segmenter(tiny_model("dit"), fast=True, keep_aspect=True)
    image = photo(6, 80, 40)
    result, explanation = segmenter(image, CLASSES), segmenter.explain(image, CLASSES)
    assert explanation.token_maps.shape[1:] == result.maps.shape[1:] == explanation.refined.shape[1:]
    assert explanation.token_maps.shape[1] < explanation.token_maps.shape[2]
    np.testing.assert_allclose(explanation.result.maps, result.maps, atol=1e-5)
    assert explanation.at(79, 39).label == explanation.classes[explanation.result.labels[39, 79]]
    assert explanation.word_map("cat", 0, 0).shape == (40, 80)


def test_a_heat_map_has_the_size_of_the_image(explanation: Explanation) -> None:
    assert explanation.heat_map("cat").size == explanation.heat_map("cat", 0, 1).size == explanation.image.size
    assert np.asarray(explanation.heat_map("cat")).std() > 1
