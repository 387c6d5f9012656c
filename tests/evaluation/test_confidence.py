"""What confidences are worth, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from toy import Toy, segmenter

from goca.calibration import Calibration
from goca.evaluation.confidence import IGNORED_BELOW, Masks, assess, fit, measure_masks, rank_correlation
from goca.evaluation.named import name_image, open_images


def masks(raw: np.ndarray, iou: np.ndarray, images: int = 20) -> Masks:
    rng = np.random.default_rng(1)
    pixels = np.sort(rng.integers(0, 100, (images, len(IGNORED_BELOW), 2)), axis=2)[..., ::-1].copy()
    return Masks(np.arange(len(raw)) % images, raw, iou, pixels, np.full(images, 100), (), 4, "toy")


def test_names_are_those_of_the_image_and_some_more() -> None:
    dataset = Toy(8)
    for index in range(8):
        try:
            image = name_image(dataset, index, range(3), seed=5)
        except ValueError as error:
            assert index == 2 and "no class that could be named" in str(error)
            continue
        true = {dataset.class_names[value] for value in np.unique(image.sample.labels) if value not in (0, 255)}
        assert image.present == true and true <= set(image.names)
        assert len(image.names) == len(set(image.names)) == len(true) + min(index % 3, 4 - len(true))
        assert image.names == name_image(dataset, index, range(3), seed=5).names


def test_masks_are_compared_with_the_truth() -> None:
    dataset, model = Toy(4), segmenter()
    found = measure_masks(model, dataset, 4, extra=1)
    assert [name for name, _ in found.failures] == ["2.png"] and len(found.pixels) == 3
    image = name_image(dataset, 3, range(2))
    result = model(image.sample.image, list(image.names), background=["background"])
    raw, iou = [], []
    counted = image.sample.labels != 255
    for segment in result:
        truth = (image.sample.labels == dataset.class_names.index(segment.name)) & counted
        mask = segment.mask & counted
        raw.append(result.margin[segment.mask].mean())
        iou.append((mask & truth).sum() / (mask | truth).sum())
    assert found.raw[found.image == 2] == pytest.approx(raw, rel=1e-5)
    assert found.iou[found.image == 2] == pytest.approx(iou)
    names = np.array([dataset.class_names.index(name) for name in result.classes])[result.labels]
    kept = (result.margin >= 0.2) & counted
    assert found.pixels[2, IGNORED_BELOW.index(0.2)].tolist() == [
        kept.sum(),
        (kept & (names == image.sample.labels)).sum(),
    ]
    assert found.all_pixels.tolist() == [int(counted.sum())] * 3


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    rng = np.random.default_rng(0)
    raw = rng.permutation(np.linspace(0, 1, 200))
    iou = np.clip(0.5 * raw + rng.normal(0, 0.05, 200), 0, 1)
    answer = assess(masks(raw, iou), Calibration(0.0, 0.0, {}, "toy"))
    order = np.argsort(raw).reshape(10, 20)
    assert answer["before"]["error"]["value"] == pytest.approx(
        np.abs(raw[order].mean(axis=1) - iou[order].mean(axis=1)).mean()
    )
    assert answer["after"]["error"]["value"] == pytest.approx(np.abs(0.5 - iou[order].mean(axis=1)).mean())
    assert answer["before"]["error"]["low"] < answer["before"]["error"]["value"] < answer["before"]["error"]["high"]
    assert [each["masks"] for each in answer["bins"]] == [20] * 10
    assert answer["bins"][3]["iou"] == pytest.approx(iou[order[3]].mean())
    assert answer["rank_correlation"] == pytest.approx(spearmanr(raw, iou)[0])
    assert assess(masks(raw, iou), None)["after"] is None


def test_ignoring_keeps_and_is_right_about_shares() -> None:
    found = masks(np.linspace(0, 1, 40), np.linspace(0, 1, 40))
    for row, (kept, right) in zip(assess(found, None)["ignore"], found.pixels.sum(axis=0).tolist(), strict=True):
        assert row["kept"]["value"] == pytest.approx(kept / 2000) and row["right"]["value"] == pytest.approx(
            right / kept
        )


def test_a_fit_on_the_same_masks_lowers_the_error() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0, 1, 600)
    found = masks(raw, (rng.uniform(0, 1, 600) < 1 / (1 + np.exp(-8 * raw + 2))).astype(float))
    calibration = fit(found, segmenter(), ", seed 4")
    assert calibration.data == "toy, seed 4" and calibration.settings["model"] == "tiny"
    answer = assess(found, calibration)
    assert answer["after"]["error"]["value"] < 0.04 < 0.1 < answer["before"]["error"]["value"]


def test_few_masks_or_none() -> None:
    answer = assess(masks(np.array([0.3, 0.3]), np.array([1.0, 0.0])), Calibration(1.0, 0.0, {}, "toy"))
    assert answer["rank_correlation"] is None and len(answer["bins"]) == 2
    nothing = assess(masks(np.zeros(0), np.zeros(0)), None)
    assert nothing["masks"] == 0 and nothing["bins"] == [] and nothing["mean_iou"] is None
    assert rank_correlation(np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 1.0])) == pytest.approx(-1)


def test_what_cannot_be_opened() -> None:
    with pytest.raises(ValueError, match="unknown data set"):
        open_images("scene")
    with pytest.raises(ValueError, match="number of images"):
        open_images("scenes", limit=0)
    with pytest.raises(ValueError, match=r"no image could be segmented: 2\.png"):
        measure_masks(segmenter(), Only(3), 1)


class Only(Toy):
    """The image without objects."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.names = ("2.png",) * count

    def __getitem__(self, index: int):
        return super().__getitem__(2)
