"""Boundary IoU against masks that are eroded class by class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from goca.evaluation.metrics import boundary_band, boundary_intersection_union, count_boundary


def by_erosion(labels: np.ndarray, index: int) -> np.ndarray:
    """Mask minus mask eroded by 3 x 3 squares, nothing around the image: the published procedure."""
    reach = max(1, round(0.02 * np.sqrt(labels.shape[0] ** 2 + labels.shape[1] ** 2)))
    mask = np.pad(labels == index, 1)
    return (mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach))[1:-1, 1:-1]


def blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.normal(size=(4, *shape)), (0, 6, 6))
    return smooth.argmax(axis=0).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (7, 9), (120, 161), (210, 190)])
def test_every_class_has_the_boundary_of_its_eroded_mask(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[1])
    predicted, target = blobs(rng, shape), blobs(rng, shape)
    target[: shape[0] // 3, : shape[1] // 3] = 255
    counts = count_boundary(predicted, target, boundary_band(target), 5, 255)
    kept = target != 255
    expected = []
    for index in range(5):
        own, true = by_erosion(predicted, index) & kept, by_erosion(target, index) & kept
        expected.append([(own & true).sum(), (own | true).sum()])
    assert boundary_intersection_union(counts).tolist() == expected
    if shape[0] > 100:
        assert not boundary_band(target).all()


def test_the_image_border_is_a_boundary_of_known_width() -> None:
    band = boundary_band(np.zeros((300, 400), dtype=np.uint8))
    assert band[:10].all() and band[:, -10:].all()
    assert not band[10:-10, 10:-10].any()
