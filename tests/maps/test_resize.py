"""Separable and indexed resizing against the operators of torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from goca.maps.resize import nearest_rows, resize_keys, unresize_keys

PAIRS = [((3, 5), (6, 10)), ((8, 6), (4, 3)), ((5, 7), (7, 4)), ((4, 4), (4, 4))]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_keys_are_bilinear_and_the_transpose_is_the_transpose(source, target):
    rows = torch.randn(3, source[0] * source[1])
    expected = F.interpolate(rows.view(3, 1, *source), size=target, mode="bilinear").flatten(1)
    torch.testing.assert_close(resize_keys(rows, source, target), expected)
    other = torch.randn(3, target[0] * target[1])
    left = (resize_keys(rows, source, target) * other).sum()
    torch.testing.assert_close((rows * unresize_keys(other, source, target)).sum(), left, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_queries_are_nearest(source, target):
    values = torch.randn(source[0] * source[1])
    expected = F.interpolate(values.view(1, 1, *source), size=target, mode="nearest").flatten()
    assert torch.equal(values[nearest_rows(source, target)], expected)
