"""Codes of masks and labels can be read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask

from goca import render


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


def test_indexed_image_refuses_what_8_bits_cannot_hold() -> None:
    with pytest.raises(ValueError, match="257 classes are too many"):
        render.indexed_image(np.full((1, 1), 256), [(0, 0, 0)] * 257)


def test_area_shares() -> None:
    np.testing.assert_allclose(render.area_shares(np.array([[0, 2], [2, 2]]), 4), [0.25, 0, 0.75, 0])


def test_heat_map_gets_lighter_with_the_score() -> None:
    scores = np.linspace(0, 1, 50, dtype=np.float32)[None]
    lightness = np.asarray(render.heat_map(Image.new("RGB", (50, 1), "grey"), scores).convert("L"))[0].astype(int)
    assert (np.diff(lightness) >= 0).all() and lightness[-1] - lightness[0] > 120
