"""Baselines against their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from toy import Toy, segmenter

from goca.maps.crf import FTTM, ITERATIONS, REFERENCE_SIDE, CrfParameters, crf
from goca.maps.pamr import pamr
from goca.maps.post import post_process
from goca.method import BASELINES, PRESETS, Method, ablation, check, find_methods
from goca.models.specs import MODELS
from goca.types import LayerRecord, ScoreMaps

IMAGE = Toy()[0].image


@pytest.mark.parametrize(("family", "name"), [("dit", "daam"), ("sd3", "single-layer"), ("flux", "single-layer")])
def test_readouts_without_further_steps(family: str, name: str) -> None:
    model = segmenter(family)
    spec, backbone = model.model.spec, model.model.backbone
    prompt = model.prompt(["cat", "grass", "sky"])
    latents = model.encode([IMAGE])
    ((maps,),), _ = model.score(latents, [prompt], [BASELINES[name]])
    noisy = backbone.add_noise(latents, spec.timestep, [torch.Generator().manual_seed(0)])
    records: list[LayerRecord] = []
    backbone.record(noisy, spec.timestep, backbone.encode_prompt([prompt.text]), lambda _, r: records.append(r))
    if name == "single-layer":
        records = [record for record in records if record.name == spec.reference_layer]
    assert records
    total = 0.0
    for record in records:
        cross, _ = reference.attention(record, torch.float64)
        total = total + torch.nn.functional.interpolate(
            cross.mean(dim=0).T.reshape(1, -1, *record.grid), tuple(maps.maps.shape[1:]), mode="bilinear"
        )
    total = total[0] / total[0].sum(dim=0)
    expected = torch.stack([total[list(concept.tokens)].mean(dim=0) for concept in prompt.classes])
    if name == "daam":
        expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(maps.maps.double(), expected, rtol=0, atol=1e-6)


def test_post_processing_is_put_on_top_of_vanilla() -> None:
    scores = ScoreMaps(("a", "b"), torch.rand(2, 16, 16), torch.zeros(16, 16))
    methods = find_methods(["vanilla", "vanilla+pamr", "vanilla+crf", "fttm"]).values()
    vanilla, with_pamr, field, fttm = (post_process(scores, IMAGE, each.pamr, each.post) for each in methods)
    assert vanilla is scores
    torch.testing.assert_close(with_pamr.maps, pamr(scores, IMAGE, 10).maps)
    torch.testing.assert_close(field.maps, crf(scores, IMAGE).maps)
    torch.testing.assert_close(fttm.maps, crf(scores, IMAGE, FTTM).maps)
    assert (FTTM.wide, FTTM.narrow, FTTM.colour, FTTM.appearance, FTTM.smoothness) == (67, 1, 3, 4, 3)


def literal_field(maps: np.ndarray, image: Image.Image, parameters: CrfParameters) -> np.ndarray:
    """Mean field, pixel by pixel, for an image that needs no resizing; maps [labels, height, width]."""
    height, width = maps.shape[1:]
    pixels = [(y, x) for y in range(height) for x in range(width)]
    colours = np.asarray(image, dtype=np.float64) / 255
    side = max(height, width)
    kernel = np.zeros((len(pixels), len(pixels)))
    wide, narrow = parameters.wide / REFERENCE_SIDE, parameters.narrow / REFERENCE_SIDE
    colour = parameters.colour / 255
    for i, (y, x) in enumerate(pixels):
        near = np.array([((y - v) ** 2 + (x - u) ** 2) / side**2 for v, u in pixels])
        like = np.array([((colours[y, x] - colours[v, u]) ** 2).sum() for v, u in pixels])
        both, place = np.exp(-near / (2 * wide**2) - like / (2 * colour**2)), np.exp(-near / (2 * narrow**2))
        kernel[i] = parameters.appearance * both / both.sum() + parameters.smoothness * place / place.sum()
    scores = np.clip(maps.reshape(len(maps), -1), 1e-3, None)
    unary = np.log(scores / scores.sum(axis=0))

    def step(beliefs: np.ndarray) -> np.ndarray:
        energies = np.exp(unary + beliefs @ kernel.T)
        return energies / energies.sum(axis=0)

    beliefs = np.exp(unary)
    for _ in range(ITERATIONS + 1):
        beliefs = step(beliefs)
    return beliefs.reshape(maps.shape)


@pytest.mark.parametrize("parameters", [CrfParameters(), FTTM])
@pytest.mark.parametrize("background", [False, True])
def test_the_random_field_equals_its_definition(background: bool, parameters: CrfParameters) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 60, (6, 9, 3), dtype=np.uint8))
    maps = torch.from_numpy(rng.random((3, 6, 9), dtype=np.float32))
    last = maps[2] if background else torch.zeros(6, 9)
    found = crf(ScoreMaps(("a", "b"), maps[:2], last), image, parameters)
    expected = literal_field(maps[: 2 + background].numpy(), image, parameters)
    np.testing.assert_allclose(found.maps.numpy(), expected[:2], atol=1e-4)
    np.testing.assert_allclose(found.background.numpy(), expected[2] if background else 0, atol=1e-4)


def test_the_random_field_finds_the_edge_of_the_picture() -> None:
    picture = np.zeros((100, 120, 3), dtype=np.uint8)
    picture[:, 70:] = 200
    target = np.arange(120) >= 70
    soft = torch.sigmoid((torch.arange(30.0) - 15) / 3).expand(25, 30)  # its middle is at column 62
    scores = crf(
        ScoreMaps(("left", "right"), torch.stack([1 - soft, soft]), torch.zeros(25, 30)), Image.fromarray(picture)
    )
    assert scores.maps.shape == (2, 100, 120)
    assert ((scores.maps[1] > scores.maps[0]).numpy() == target).mean() > 0.99


def test_names() -> None:
    chosen = find_methods(["paper", "daam"], refine=False)
    assert list(chosen) == ["paper", "daam"]
    assert chosen["paper"] == Method(refine_order=0)
    with pytest.raises(ValueError, match=r"unknown preset 'best'; choose one of paper, .*manual, daam, single-layer"):
        find_methods(["paper", "best"])
    with pytest.raises(ValueError, match="name at least one preset"):
        find_methods([])
    check(PRESETS["manual"], MODELS["sd15"])
    with pytest.raises(ValueError, match="flux-dev has no hand-picked layers for the preset 'manual'"):
        check(PRESETS["manual"], MODELS["flux-dev"])


def test_the_ablation_has_the_papers_rows() -> None:
    rows = ablation(MODELS["sd15"])
    assert list(rows) == ["none", "manual layers", "head", "layer", "rescale", "all"]
    assert rows["none"] == PRESETS["vanilla"] and rows["all"] == PRESETS["paper"]
    differing = {
        name: [key for key, value in vars(rows[name]).items() if value != getattr(rows["none"], key)]
        for name in ("head", "layer", "rescale", "all")
    }
    parts = {
        "head": ["heads"],
        "layer": ["layers", "layer_set"],
        "rescale": ["rescale"],
        "all": ["heads", "layers", "rescale", "layer_set"],
    }
    assert differing == parts
    assert "manual layers" not in ablation(MODELS["flux-dev"])
