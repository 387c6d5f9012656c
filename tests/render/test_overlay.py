"""The overlay is legible at every size: outlines, names inside their regions, a key, and an opacity that fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from goca import render
from goca.render.key import legend
from goca.render.names import draw_names, place_names
from goca.render.outlines import outlines
from goca.render.overlay import LEAST, MOST, default_opacity
from goca.render.text import readable

HOSTILE = ["a\nb\x1b[31m\udcff", "\u202eevil", "猫と犬", "שלום", "é" * 300, " ", "🐈\u200d⬛", "<b>&amp;"]


def quarters(side: int) -> np.ndarray:
    """Four squares with labels 0 to 3."""
    labels = np.zeros((side, side), dtype=np.uint8)
    labels[:, side // 2 :] = 1
    labels[side // 2 :] += 2
    return labels


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (64, 200), (3, 900), (4000, 3000)])
def test_overlay_is_legible_at_every_size(size: tuple[int, int]) -> None:
    width, height = size
    picture = render.overlay(Image.new("RGB", size), np.zeros((height, width), np.int64), ("cat", "fire engine"), 1.0)
    factor = max(1, round(render.OVERLAY_SIDE / max(size)))
    assert picture.getpixel((0, 0)) == render.palette()[0]
    assert picture.getpixel((width * factor - 1, height * factor - 1)) == render.palette()[0]
    key = np.asarray(picture)[height * factor :]
    dark = np.argwhere((key < 80).all(axis=-1))
    letters = dark[:, 0].max() - dark[:, 0].min()
    assert letters >= 8 and letters >= max(picture.size) / 80


def test_overlay_names_every_class_and_grows_with_their_number() -> None:
    image, labels = Image.new("RGB", (640, 100)), np.zeros((100, 640), np.int64)
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


def test_opacity_follows_the_contrast_of_the_picture() -> None:
    pictures = [
        Image.fromarray(np.random.default_rng(0).choice([128 - spread, 128 + spread], (3000, 200)).astype(np.uint8))
        for spread in (0, 20, 60, 75, 127)
    ]
    small = [default_opacity(each.crop((0, 0, 200, 200)).convert("RGB")) for each in pictures]
    assert small == sorted(small) and small[0] == LEAST and small[-1] == MOST
    assert small[2] == pytest.approx(60 / 124, abs=0.01)
    assert LEAST <= default_opacity(pictures[-1].convert("RGB")) <= MOST


def test_outlines_are_on_both_sides_of_a_border_and_not_at_the_edge() -> None:
    edge = outlines(quarters(20), 2)
    assert edge[:, 8:12].all() and edge[8:12].all()
    assert not edge[:8, :8].any() and not edge[12:, 12:].any()
    speck = np.zeros((9, 9), dtype=np.uint8)
    speck[4, 4] = 1
    assert outlines(speck, 3)[4, 4]
    assert not outlines(np.zeros((1, 1), np.uint8), 5).any()


def test_names_stand_inside_their_regions_and_leave_the_others_alone() -> None:
    labels = quarters(700)
    names = ("sky", "a much longer name", "pond", "fire engine")
    placed = place_names(labels, names)
    assert [each.text for each in placed] == list(names)
    for each in placed:
        picture = Image.new("RGB", (700, 700), "grey")
        draw_names(picture, [each], render.palette(4))
        changed = (np.asarray(picture) != 128).any(axis=-1)
        assert changed.any() and (labels[changed] == each.index).all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.integers(0, 3)))
def test_names_never_overlap(cells: np.ndarray) -> None:
    labels = cells.repeat(40, axis=0).repeat(40, axis=1)
    drawn = np.zeros(labels.shape, dtype=int)
    for each in place_names(labels, ("a", "bird", "fire engine", "water")):
        picture = Image.new("RGB", (labels.shape[1], labels.shape[0]), "grey")
        draw_names(picture, [each], render.palette(4))
        drawn += (np.asarray(picture) != 128).any(axis=-1)
    assert drawn.max() <= 1


def test_a_region_that_is_too_small_has_no_name() -> None:
    labels = np.zeros((640, 640), dtype=np.uint8)
    labels[300:310, 300:310] = 1
    assert [each.index for each in place_names(labels, ("sky", "bird"))] == [0]


def test_a_name_differs_from_its_halo_by_far() -> None:
    """WCAG asks for a contrast of 4.5 at least."""
    for colour in (*render.palette(20), render.BACKGROUND_COLOUR):
        picture = Image.new("RGB", (300, 100), colour)
        draw_names(picture, place_names(np.zeros((100, 300), np.uint8), ["m"]), [colour])
        linear = (np.asarray(picture) / 255) ** 2.2 @ [0.2126, 0.7152, 0.0722]
        assert (linear.max() + 0.05) / (linear.min() + 0.05) > 7


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_break_nothing(name: str) -> None:
    picture = render.overlay(Image.new("RGB", (64, 64)), np.zeros((64, 64), np.int64), (name, "b"), 0.5)
    assert render.OVERLAY_SIDE <= picture.width < 1000
    assert readable(name)[0].isprintable() and len(readable(name)[0]) < 300


def test_characters_without_a_glyph_are_escaped() -> None:
    assert readable("ab\u0378")[0] == "ab\\u0378"


def test_a_very_long_name_stays_narrow() -> None:
    picture = render.overlay(Image.new("RGB", (64, 64)), np.zeros((64, 64), np.int64), ("word " * 100,), 0.5)
    assert picture.width < 700


def test_key_grows_with_a_long_name_only() -> None:
    assert legend(["cat"], [(1, 2, 3)], 100, 14).width == 100
    assert legend(["m" * 40], [(1, 2, 3)], 100, 14).width > 400


def test_paint_without_names_is_the_picture_alone() -> None:
    image, labels = Image.new("RGB", (640, 640), "white"), np.zeros((640, 640), np.int64)
    assert len(render.paint(image, labels, render.palette(1), 0.5).getcolors()) == 1
