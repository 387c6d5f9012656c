"""Colours can be told apart, codes can be read back, and the overlay is legible at every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask

from goca import render


def test_palette_has_256_different_colours() -> None:
    assert len(set(render.palette())) == render.MAX_CLASSES


def test_first_colours_differ_for_every_colour_vision() -> None:
    seen = render.colour_coordinates(np.array(render.palette()[:12]))
    distances = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
    distances[:, np.arange(12), np.arange(12)] = np.inf
    assert distances.min() > 10


def test_white_is_lightest_for_every_colour_vision() -> None:
    np.testing.assert_allclose(
        render.colour_coordinates(np.array([[255, 255, 255]]))[:, 0], [[100, 0, 0]] * 3, atol=0.1
    )


def test_background_is_grey_and_only_as_the_last_class() -> None:
    assert render.class_colours(("cat", "background"))[1] == render.BACKGROUND_COLOUR
    assert render.BACKGROUND_COLOUR not in render.class_colours(("background", "cat"))


def test_too_many_classes() -> None:
    with pytest.raises(ValueError, match="257 classes are too many"):
        render.class_colours([str(i) for i in range(257)])


@settings(max_examples=25, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=17)))
def test_run_lengths_are_read_back_by_pycocotools(mask: np.ndarray) -> None:
    code = render.run_lengths(mask)
    assert code["size"] == list(mask.shape) and isinstance(code["counts"], str)
    np.testing.assert_array_equal(coco_mask.decode(code).astype(bool), mask)


@settings(max_examples=25, deadline=None)
@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 255)))
def test_indexed_image_holds_the_labels(labels: np.ndarray) -> None:
    picture = render.indexed_image(labels, render.palette())
    np.testing.assert_array_equal(np.asarray(picture), labels)
    assert picture.convert("RGB").getpixel((0, 0)) == render.palette()[labels[0, 0]]


def test_area_shares() -> None:
    np.testing.assert_allclose(render.area_shares(np.array([[0, 2], [2, 2]]), 4), [0.25, 0, 0.75, 0])


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (64, 200), (3, 900), (4000, 3000)])
def test_overlay_is_legible_at_every_size(size: tuple[int, int]) -> None:
    width, height = size
    picture = render.overlay(Image.new("RGB", size), np.zeros((height, width), np.int64), ("cat", "fire engine"), 1.0)
    factor = max(1, render.MIN_OVERLAY_SIDE // max(size))
    assert picture.getpixel((0, 0)) == render.palette()[0]
    assert picture.getpixel((width * factor - 1, height * factor - 1)) == render.palette()[0]
    key = np.asarray(picture)[height * factor :]
    dark = np.argwhere((key < 80).all(axis=-1))
    letters = dark[:, 0].max() - dark[:, 0].min()
    assert letters >= 8 and letters >= max(picture.size) / 80


def test_overlay_names_every_class_and_grows_with_their_number() -> None:
    image, labels = Image.new("RGB", (480, 100)), np.zeros((100, 480), np.int64)
    few = render.overlay(image, labels, ("a", "b"), 0.5)
    many = render.overlay(image, labels, [f"class {i}" for i in range(60)], 0.5)
    assert many.height > few.height > 100
    colours = {colour for _, colour in many.getcolors(many.width * many.height)}
    assert set(render.palette()[:60]) <= colours


def test_overlay_blends_by_opacity() -> None:
    image, labels = Image.new("RGB", (500, 500), "white"), np.zeros((500, 500), np.int64)
    assert render.overlay(image, labels, ("a",), 0.0).getpixel((9, 9)) == (255, 255, 255)
    with pytest.raises(ValueError, match=r"opacity is a number from 0 to 1, not 2\.0"):
        render.overlay(image, labels, ("a",), 2.0)


def test_overlay_of_a_very_long_name_stays_narrow() -> None:
    picture = render.overlay(Image.new("RGB", (64, 64)), np.zeros((64, 64), np.int64), ("word " * 100,), 0.5)
    assert picture.width < 700


def test_heat_map_gets_lighter_with_the_score() -> None:
    scores = np.linspace(0, 1, 50, dtype=np.float32)[None]
    lightness = np.asarray(render.heat_map(Image.new("RGB", (50, 1), "grey"), scores).convert("L"))[0].astype(int)
    assert (np.diff(lightness) >= 0).all() and lightness[-1] - lightness[0] > 120
