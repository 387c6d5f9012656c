"""The explorer's data: values survive the packing, texts are harmless, sizes are bounded."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.examples import HOSTILE, explanation, grey, segmentation
from goca.explorer import payload
from goca.explorer.packing import fitting_side, pack_labels, pack_maps, reduce_maps
from goca.render import class_colours
from goca.result import Segmentation


def unpack(packed: dict) -> np.ndarray:
    """What the page makes of packed maps."""
    values = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(packed["shape"])
    leading = (*packed["shape"][:-2], 1, 1)
    low, high = (np.array(packed[key]).reshape(leading) for key in ("low", "high"))
    return low + (high - low) * values / 255


def unpack_labels(text: str) -> list[int]:
    """What the page makes of packed labels."""
    numbers, value, factor = [], 0, 1
    for byte in base64.b64decode(text):
        value, factor = value + (byte & 127) * factor, factor * 128
        if byte < 128:
            numbers.append(value)
            value, factor = 0, 1
    return [label for label, count in zip(numbers[::2], numbers[1::2], strict=True) for _ in range(count)]


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_maps_survive_but_for_rounding(seed: int, scale: float, offset: float) -> None:
    maps = (np.random.default_rng(seed).random((2, 3, 4, 5)) * scale + offset).astype(np.float32)
    spans = maps.max(axis=(2, 3), keepdims=True) - maps.min(axis=(2, 3), keepdims=True)
    limit = spans / 510 + 1e-6 * np.abs(maps).max()
    assert (np.abs(unpack(pack_maps(maps)) - maps) <= limit).all()


def test_a_map_of_one_value_survives() -> None:
    assert np.array_equal(unpack(pack_maps(np.full((1, 2, 2), 0.5, np.float32))), np.full((1, 2, 2), 0.5))


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no finite numbers"):
        pack_maps(np.full((1, 2, 2), np.nan, np.float32))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 400)), min_size=1, max_size=30))
def test_labels_survive(runs: list[tuple[int, int]]) -> None:
    labels = np.concatenate([np.full(count, label) for label, count in runs])[None]
    assert unpack_labels(pack_labels(labels)) == labels[0].tolist()


def test_long_runs_of_labels_survive() -> None:
    labels = np.zeros((1200, 2000), int)
    labels[-1, -1] = 200
    found = unpack_labels(pack_labels(labels))
    assert len(found) == labels.size and found[-2:] == [0, 200] and sum(found) == 200


def test_reduced_maps_keep_their_mean_and_shape() -> None:
    maps = np.random.default_rng(0).random((3, 2, 64, 32), dtype=np.float32)
    small = reduce_maps(maps, 16)
    assert small.shape == (3, 2, 16, 8)
    assert np.allclose(small.mean(axis=(2, 3)), maps.mean(axis=(2, 3)), atol=1e-6)
    assert reduce_maps(maps, 64) is maps
    assert fitting_side(10, (32, 16), 10 * 256) == 16 and fitting_side(11, (32, 16), 10 * 256) is None


def test_a_plain_segmentation_has_one_stage_and_says_so() -> None:
    result = segmentation()
    data = payload(result)
    (entry,) = data["results"]
    assert [stage["kind"] for stage in entry["stages"]] == ["labels"]
    assert any("final maps and labels" in note for note in entry["notes"])
    assert np.allclose(unpack(entry["stages"][0]["maps"]), result.maps, atol=1 / 500)
    assert unpack_labels(entry["labels"]) == result.labels.reshape(-1).tolist()
    assert [tuple(channel["colour"]) for channel in entry["channels"]] == list(class_colours(result.classes))


def test_an_explanation_has_all_stages_and_their_values() -> None:
    example = explanation()
    (entry,) = payload(example)["results"]
    kinds = [stage["kind"] for stage in entry["stages"]]
    assert kinds == ["layer"] * len(example.layers) + ["aggregated", "rescaled", "refined", "labels"]
    channels = [channel["name"] for channel in entry["channels"]]
    assert channels == ["cat", "grass", "background", "big", "start, end, padding", "commas, articles"]
    stages = {stage["kind"]: unpack(stage["maps"]) for stage in entry["stages"]}
    assert np.allclose(stages["aggregated"][:2], example.class_attention[:2], atol=2e-3)
    assert np.allclose(stages["aggregated"][3], example.word_map("big").mean() * 0 + example.grid_map("big"), atol=2e-3)
    assert np.allclose(stages["aggregated"][4], example.share_maps[0], atol=2e-3)
    assert np.allclose(stages["rescaled"], example.rescaled, atol=2e-3)
    assert np.allclose(stages["refined"], example.refined, atol=2e-3)
    assert entry["background"] == {"rule": "offset", "threshold": 0.4}
    for layer, told in zip(example.layers, entry["layers"], strict=True):
        assert told["weight"] == layer.weight and len(told["heads"]) == layer.heads
        assert np.allclose(told["heads"], layer.head_weights.mean(axis=(1, 2)), atol=1e-5)
        first = unpack(entry["stages"][list(example.layers).index(layer)]["maps"])
        assert np.allclose(first[0], example.grid_map("cat", layer.name), atol=2e-3)
        assert unpack(told["maps"]).shape[:2] == (layer.heads, 3)


def test_several_results_share_colours_and_images() -> None:
    first, second = segmentation(("cat", "grass")), segmentation(("grass", "dog", "background"))
    second = replace(second, image=first.image)
    data = payload({"paper": first, "sharp": second})
    assert len(data["images"]) == 1
    colours = [{each["name"]: each["colour"] for each in entry["channels"]} for entry in data["results"]]
    assert colours[0]["grass"] == colours[1]["grass"] != colours[0]["cat"]
    assert [entry["name"] for entry in data["results"]] == ["paper", "sharp"]


def test_names_become_visible_text() -> None:
    data = payload(segmentation(HOSTILE), title="\u202etitle\x00", facts=[("command", "goca \x07")])
    text = json.dumps(data, ensure_ascii=False)
    assert not any(character in text for character in "\x1b\u202e\x00\x07")
    assert data["title"] == "\\u202etitle\\x00"
    assert data["results"][0]["channels"][1]["name"] == "a\\x1b[2Jb\\u202ec"


def test_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match="no result to show"):
        payload({})
    maps = np.zeros((257, 1, 1), np.float32)
    many = Segmentation(grey(1, 1), tuple(map(str, range(257))), np.zeros((1, 1), int), maps)
    with pytest.raises(ValueError, match="at most 256 classes, not 257"):
        payload(many)


def test_big_results_stay_small() -> None:
    image = grey(3000, 2000)
    labels = (np.indices((2000, 3000)).sum(axis=0) // 500) % 8
    maps = np.random.default_rng(0).random((8, 512, 512), dtype=np.float32)
    data = payload(Segmentation(image, tuple("abcdefgh"), labels, maps))
    assert len(json.dumps(data)) < 1_500_000
    assert unpack_labels(data["results"][0]["labels"]) == labels.reshape(-1).tolist()
    assert any("256 x 256" in note for note in data["results"][0]["notes"])
