"""Pixel-adaptive refinement against a literal loop, and what it is for."""

import numpy as np
import torch
from PIL import Image

from goca.maps.pamr import CONTRAST, DISTANCES, LONGEST_SIDE, likeness, pamr
from goca.types import ScoreMaps


def scores(maps: torch.Tensor) -> ScoreMaps:
    names = tuple(f"class {index}" for index in range(len(maps)))
    return ScoreMaps(names, maps, torch.zeros(maps.shape[1:]))


def halves(height: int = 40, width: int = 60) -> Image.Image:
    """Red on the left, blue on the right, with a little grain."""
    pixels = np.random.default_rng(0).integers(0, 12, (height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] += 200
    pixels[:, width // 2 :, 2] += 200
    return Image.fromarray(pixels)


def literal(maps: np.ndarray, image: np.ndarray) -> np.ndarray:
    """One round, pixel by pixel."""
    _, height, width = maps.shape
    result = np.zeros_like(maps)
    for y in range(height):
        for x in range(width):
            places = [
                (min(max(y + dy * d, 0), height - 1), min(max(x + dx * d, 0), width - 1))
                for d in DISTANCES
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if (dy, dx) != (0, 0)
            ]
            colours = np.array([image[:, i, j] for i, j in places])
            deviation = np.vstack([colours, image[None, :, y, x]]).std(axis=0, ddof=1)
            distance = (np.abs(colours - image[:, y, x]) / (CONTRAST * deviation + 1e-8)).mean(axis=1)
            weight = np.exp(-distance + distance.min())
            weight /= weight.sum()
            result[:, y, x] = sum(w * maps[:, i, j] for w, (i, j) in zip(weight, places, strict=True))
    return result


def test_one_round_equals_the_literal_loop() -> None:
    image = halves(9, 14)
    maps = torch.rand(2, 9, 14, generator=torch.Generator().manual_seed(0))
    colours = np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255
    result = pamr(scores(maps), image, 1)
    np.testing.assert_allclose(result.maps.numpy(), literal(maps.double().numpy(), colours), rtol=0, atol=1e-4)


def test_weights_sum_to_one_also_on_a_blank_image() -> None:
    for image in (torch.rand(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 1, 1)):
        torch.testing.assert_close(likeness(image).sum(dim=0), torch.ones(image.shape[1:]))


def test_a_blurred_edge_moves_to_the_edge_of_the_image() -> None:
    ramp = torch.linspace(1, 0, 12).expand(8, 12)
    shifted = torch.stack([ramp + 0.15, 1 - ramp])  # the classes meet a good way to the right of the edge
    before, after = (pamr(scores(shifted), halves(), rounds) for rounds in (0, 10))
    assert before.maps.shape == (2, 8, 12)
    target = np.zeros((40, 60), dtype=int)
    target[:, 30:] = 1
    wide = torch.nn.functional.interpolate(before.maps[None], size=(40, 60), mode="bilinear")[0]
    wrong = [(maps.argmax(dim=0).numpy() != target).mean() for maps in (wide, after.maps)]
    assert wrong[0] > 0.05 and wrong[1] < 0.01


def test_large_images_are_sharpened_at_a_bounded_size() -> None:
    result = pamr(scores(torch.rand(1, 4, 4)), Image.new("RGB", (2000, 1000)), 1)
    assert result.maps.shape == (1, LONGEST_SIDE // 2, LONGEST_SIDE)
