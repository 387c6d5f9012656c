"""The equations of S-CFG, against the published code's files and in closed cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from goca.golden.verify import verify
from goca.guidance.scfg import adjusted_uncond, guidance_rate, guided_noise, region_masks, smooth
from goca.maps.aggregate import Aggregation

FILES = sorted((Path(__file__).parents[1] / "golden" / "guidance").iterdir())
RULE = "sum-1 rescaling + per-token renorm+"


def noise(seed: int, channels: int = 3, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_published_guidance_is_reproduced(path: Path) -> None:
    (check,) = verify([path])
    assert (check.kind, check.name) == ("guidance", path.stem)
    assert check.passed and check.difference <= 1e-5


@pytest.mark.parametrize("part", ["token_masks", "foreground_mask", "rate", "guided_noise"])
def test_a_wrong_expectation_fails(part: str, tmp_path: Path) -> None:
    with safe_open(FILES[-1], framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    spoilt = tensors[f"expected.{part}"]
    spoilt[..., 0, :3] = 1 - spoilt[..., 0, :3] if "mask" in part else spoilt[..., 0, :3] + 2e-4
    save_file(tensors, tmp_path / "case.safetensors", {"case": json.dumps(json.loads(metadata["case"]))})
    (check,) = verify([tmp_path])
    assert not check.passed


def two_words() -> Aggregation:
    """Token 1 on the left, token 3 on the right."""
    maps = torch.rand(5, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.01
    maps[1, :, :4] += 4
    maps[3, :, 4:] += 4
    return Aggregation(maps, {}, None)


def test_each_pixel_belongs_to_its_largest_map() -> None:
    masks, _ = region_masks(two_words(), torch.rand(6, 8), (1, 3), (1, 3), RULE, 0, (6, 8))
    assert torch.equal(masks.sum(dim=0), torch.ones(6, 8))
    assert masks[0, :, :2].all() and masks[1, :, 6:].all()
    larger, foreground = region_masks(two_words(), torch.rand(6, 8), (1, 3), (1, 3), RULE, 0, (12, 16))
    assert larger.shape == (2, 12, 16) and larger[0, :, :4].all() and foreground.shape == (12, 16)


def test_the_foreground_is_where_the_empty_token_is_weak() -> None:
    start = torch.zeros(6, 8)
    start[:, 5:] = 1.0
    _, foreground = region_masks(two_words(), start, (1, 3), (1, 3), RULE, 0, (6, 8))
    assert foreground[:, :4].all() and not foreground[:, 6:].any()


def test_the_rate_evens_out_the_regions() -> None:
    uncond, masks = torch.zeros(2, 9, 12), torch.zeros(2, 9, 12)
    text = torch.zeros(2, 9, 12)
    text[0, :, :6], text[1, :, 6:] = 3.0, 2.0
    masks[0, :, :6], masks[1, :, 6:] = 1.0, 1.0
    foreground = masks[0]
    rate = guidance_rate(uncond, text, masks, foreground, 5.0)
    torch.testing.assert_close(rate[:, :5], torch.ones(9, 5))
    torch.testing.assert_close(rate[:, 7:], torch.full((9, 5), 1.5))
    weak = guidance_rate(uncond, text * torch.tensor([1.0, 0.1])[:, None, None], masks, foreground, 5.0)
    torch.testing.assert_close(weak[:, 7:], torch.full((9, 5), 3.0))
    strong = guidance_rate(uncond, text * torch.tensor([1.0, 9.0])[:, None, None], masks, foreground, 5.0)
    torch.testing.assert_close(strong[:, 7:], torch.full((9, 5), 0.8))
    capped = guidance_rate(uncond, text * torch.tensor([1.0, 0.1])[:, None, None], masks, foreground, 10.0)
    torch.testing.assert_close(capped[:, 7:], torch.full((9, 5), 1.5))


def test_nothing_to_compare_gives_plain_guidance() -> None:
    ones = torch.ones(6, 8)
    same = noise(0)
    assert torch.equal(guidance_rate(same, same, ones[None], ones, 5.0), smooth(ones))
    assert torch.equal(guidance_rate(same, noise(1), ones[None], torch.zeros(6, 8), 5.0), smooth(ones))


@pytest.mark.parametrize("scale", [1.5, 5.0, 15.0])
def test_the_counterweight_makes_the_stock_formula_guide_by_rate(scale: float) -> None:
    uncond, text, rate = noise(0), noise(1), noise(2)[0].abs()
    given = adjusted_uncond(uncond, text, rate, scale)
    torch.testing.assert_close(
        given + scale * (text - given), guided_noise(uncond, text, rate, scale), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(adjusted_uncond(uncond, text, torch.ones(6, 8), scale), uncond)
