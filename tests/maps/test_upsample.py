"""Upsampling along the image's edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from goca.maps.background import assign_labels
from goca.maps.resize import resize_maps
from goca.maps.upsample import EPSILON, colour_slopes, edge_labels, resize_rows, upsampled_rows
from goca.types import ScoreMaps


def test_rows_are_those_of_the_whole() -> None:
    maps = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0))
    for size in ((40, 33), (4, 3), (7, 5)):
        whole = resize_maps(maps, size)
        parts = [resize_rows(maps, size, top, min(top + 3, size[0])) for top in range(0, size[0], 3)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_slopes_are_those_of_a_ridge_regression_in_each_window() -> None:
    generator = torch.Generator().manual_seed(1)
    maps, colours = torch.rand(2, 6, 5, generator=generator), torch.rand(3, 6, 5, generator=generator)
    single = torch.zeros(2, 3, 6, 5)
    for row in range(6):
        for column in range(5):
            window = np.s_[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            x, y = colours[window].flatten(1), maps[window].flatten(1)
            x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
            gram = x @ x.T / x.shape[1] + EPSILON * torch.eye(3)
            single[:, :, row, column] = torch.linalg.solve(gram, x @ y.T / x.shape[1]).T
    expected = F.avg_pool2d(single.flatten(0, 1)[None], 3, 1, 1, count_include_pad=False)[0].view(2, 3, 6, 5)
    torch.testing.assert_close(colour_slopes(maps, colours), expected, atol=1e-5, rtol=1e-4)


def two_halves(edge: int) -> tuple[Image.Image, ScoreMaps]:
    """A picture of 96 x 64, black left of ``edge`` and white right of it, and maps of 12 x 8 cells of both sides."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, edge:] = 255
    white = F.adaptive_avg_pool2d(torch.from_numpy(pixels[None, :, :, 0] / 255).float(), (8, 12))[0]
    return Image.fromarray(pixels), ScoreMaps(
        ("black", "white"), torch.stack([1 - white, white]), torch.zeros_like(white)
    )


@pytest.mark.parametrize("edge", [42, 43, 46, 51])
def test_labels_follow_an_edge_inside_a_cell(edge: int) -> None:
    image, scores = two_halves(edge)
    true = np.asarray(image)[:, :, 0] > 0
    wrong = (edge_labels(scores, image, None).numpy().astype(bool) != true).mean()
    bilinear = (assign_labels(scores, (64, 96), None).numpy().astype(bool) != true).mean()
    assert wrong == 0 < bilinear


def test_an_image_of_one_colour_is_upsampled_bilinearly() -> None:
    generator = torch.Generator().manual_seed(2)
    scores = ScoreMaps(("a", "b"), torch.rand(2, 5, 6, generator=generator), torch.rand(5, 6, generator=generator))
    grey = Image.new("RGB", (50, 40), (90, 120, 30))
    (block,) = upsampled_rows(scores, grey)
    torch.testing.assert_close(block.maps, resize_maps(scores.maps, (40, 50)))
    torch.testing.assert_close(block.background, resize_maps(scores.background[None], (40, 50))[0])
    labels = edge_labels(scores, grey, "offset", 0.1)
    assert (labels == assign_labels(scores, (40, 50), "offset", 0.1)).float().mean() > 0.999


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    image = Image.fromarray(generator.integers(0, 256, (37, 29, 3), dtype=np.uint8))
    scores = ScoreMaps(("a", "b"), torch.from_numpy(generator.random((2, 5, 4), np.float32)), torch.zeros(5, 4))
    whole = edge_labels(scores, image, "max", 0.4)
    monkeypatch.setattr("goca.maps.upsample.BLOCK_SCORES", 4 * 3 * 29)
    assert len(list(upsampled_rows(scores, image))) > 5
    assert torch.equal(edge_labels(scores, image, "max", 0.4), whole)
