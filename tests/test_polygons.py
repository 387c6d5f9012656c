"""Outlines of masks: exact areas, holes, and pixels that touch at a corner."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from goca.polygons import Polygon, join_holes, ring_area, trace_polygons


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_square_is_four_corners() -> None:
    (polygon,) = trace_polygons(mask_of("....", ".##.", ".##."))
    assert polygon.outer.tolist() == [[1, 1], [3, 1], [3, 3], [1, 3]]
    assert polygon.holes == () and polygon.area == 4


def test_a_hole_belongs_to_what_surrounds_it() -> None:
    first, second = trace_polygons(mask_of("#####", "#...#", "#.#.#", "#...#", "#####"))
    assert [len(each.holes) for each in (first, second)] == [1, 0]
    assert first.area == 16 and second.area == 1


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    assert [each.area for each in trace_polygons(mask_of("#.", ".#"))] == [1, 1]
    assert [each.area for each in trace_polygons(mask_of(".#", "#."))] == [1, 1]
    (ring,) = trace_polygons(mask_of("###", "#.#", "##."))
    assert ring.area == 7


def test_nothing_has_no_polygons() -> None:
    assert trace_polygons(np.zeros((3, 4), dtype=bool)) == []


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_areas_are_those_of_the_connected_parts(share: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 14, 2)) < share
        parts, count = ndimage.label(mask)
        areas = np.bincount(parts.ravel(), minlength=count + 1)
        polygons = trace_polygons(mask)
        assert len(polygons) == count
        for polygon in polygons:
            x, y = polygon.outer[0]
            assert polygon.area == areas[parts[y, x]]


def test_joined_holes_leave_the_area_as_it_is() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        mask = rng.random((12, 12)) < 0.7
        for polygon in trace_polygons(mask):
            assert ring_area(join_holes(polygon)) == polygon.area


def test_a_polygon_without_holes_is_its_own_join() -> None:
    polygon = Polygon(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    assert join_holes(polygon) is polygon.outer
