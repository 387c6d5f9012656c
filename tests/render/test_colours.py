"""Colours can be told apart after blending by everybody, and a name keeps its colour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goca import render
from goca.classes import BACKGROUND
from goca.render.vision import VISIONS, oklab, separation


def test_palette_has_256_different_colours() -> None:
    assert len({*render.palette(), render.BACKGROUND_COLOUR}) == render.MAX_CLASSES + 1
    assert render.palette(3) == render.palette()[:3] and render.palette(30) == render.palette()[:30]


@pytest.mark.parametrize(("count", "usual", "others"), [(8, 12, 6), (12, 7.5, 4), (20, 6, 3)])
def test_blended_colours_stay_apart_for_every_vision(count: int, usual: float, others: float) -> None:
    for vision in VISIONS:
        colours = np.array(render.palette(count))
        assert separation(colours, vision, opacity=0.5) >= (usual if vision == "usual" else others)


@pytest.mark.parametrize("vision", VISIONS)
def test_greys_are_grey_for_every_vision(vision: str) -> None:
    greys = oklab(np.array([[0.0] * 3, [128.0] * 3, [255.0] * 3]), vision)
    np.testing.assert_allclose(greys, [[0, 0, 0], [59.99, 0, 0], [100, 0, 0]], atol=0.05)


def test_oklab_of_known_colours() -> None:
    """Red and blue of the OKLab article's own sRGB conversion."""
    np.testing.assert_allclose(
        oklab(np.array([[255.0, 0, 0], [0, 0, 255.0]])), [[62.8, 22.5, 12.6], [45.2, -3.2, -31.2]], atol=0.1
    )


def test_colour_blind_people_confuse_what_they_do() -> None:
    red_green = np.array([[200, 60, 40], [110, 105, 0]])
    assert separation(red_green, "protanopia", 1.0) < 0.5 * separation(red_green, "usual", 1.0)


def test_background_is_dark_grey_and_takes_no_colour() -> None:
    first, second = render.palette(2)
    assert render.class_colours(("cat", BACKGROUND, "dog")) == (first, render.BACKGROUND_COLOUR, second)


def test_too_many_classes_for_a_picture() -> None:
    with pytest.raises(ValueError, match="257 classes are too many"):
        render.class_colours([str(i) for i in range(257)])


LISTS = st.lists(st.lists(st.sampled_from([BACKGROUND, *"abcdefgh"]), unique=True, max_size=6), max_size=6)


@given(LISTS)
def test_a_name_has_one_colour_over_all_lists(lists: list[list[str]]) -> None:
    colours = render.run_colours(lists)
    assert set(colours) == {name for names in lists for name in names}
    assert len(set(colours.values())) == len(colours)
    if lists:
        assert tuple(colours[name] for name in lists[0]) == render.class_colours(lists[0])


def test_more_names_than_colours_share_them_but_not_in_one_list() -> None:
    lists = [[f"{first}-{second}" for second in range(100)] for first in range(7)]
    colours = render.run_colours(lists)
    assert all(len({colours[name] for name in names}) == 100 for names in lists)
    assert len(render.run_colours([[str(i) for i in range(400)]])) == 400


def test_wanted_colours_are_given_unless_another_name_has_them() -> None:
    known = {"cat": render.palette(1)[0]}
    render.add_colours(known, ["dog", "cow"], [render.palette(1)[0], (1, 2, 3)])
    assert known["cow"] == (1, 2, 3) and len(set(known.values())) == 3


def test_hex_colour() -> None:
    assert render.hex_colour((255, 0, 16)) == "#ff0010"
