"""Confidences: what they mean with and without a calibration, and that one is only used where it was fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize
from scipy.special import expit
from small import photo, tiny_model

from goca import Segmentation, Segmenter
from goca.calibration import Calibration, fit_logistic, load_calibration, plain
from goca.datasets.scenes import make_scene
from goca.observation import Explanation
from goca.result_store import ResultStore

CURVE = Calibration(4.0, -1.0, {"model": "tiny"}, "12 images of toy")


def result(calibration: Calibration | None = None) -> Segmentation:
    maps = np.array([[[0.9, 0.8, 0.1]], [[0.1, 0.2, 0.5]], [[0, 0, 0]]], np.float32)
    image = Image.new("RGB", (3, 1))
    return Segmentation(image, ("cat", "sky", "dog"), np.array([[0, 0, 1]]), maps, calibration=calibration)


def test_the_raw_score_is_the_mean_margin() -> None:
    assert result().confidence == pytest.approx({"cat": 0.7, "sky": 0.4, "dog": 0})
    assert result().confidence_meaning.startswith(
        "mean margin over the next class inside the mask; no calibration holds"
    )


def test_a_calibration_gives_the_expected_iou(tmp_path: Path) -> None:
    calibrated = result(CURVE)
    assert calibrated.confidence == pytest.approx({"cat": expit(1.8), "sky": expit(0.6), "dog": 0})
    assert calibrated.confidence_meaning == "expected IoU with the true mask, fitted on 12 images of toy"
    content = calibrated.to_dict()
    assert content["confidence"] == calibrated.confidence_meaning
    assert [each["confidence"] for each in content["classes"]] == list(calibrated.confidence.values())  # type: ignore[attr-defined]
    store = ResultStore(tmp_path)
    store.save("a", replace(calibrated, dropped={"tree": -0.1}))
    again = store.load("a", calibrated.image)
    assert again.confidence == calibrated.confidence and again.dropped == {"tree": -0.1}


def test_the_fit_has_the_least_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0, 1, 400)
    iou = np.clip(expit(6 * raw - 2) + rng.normal(0, 0.1, 400), 0, 1)

    def loss(weights: np.ndarray) -> float:
        expected = expit(weights[0] * raw + weights[1])
        cross = -(iou * np.log(expected) + (1 - iou) * np.log(1 - expected)).sum()
        return float(cross + 0.5e-3 * (weights**2).sum())

    assert fit_logistic(raw, iou) == pytest.approx(minimize(loss, [0, 0]).x, abs=1e-3)
    slope, offset = fit_logistic(raw, 1 - iou)  # the better the worse: no curve falls
    assert slope == 0 and expit(offset) == pytest.approx((1 - iou).mean())
    assert np.isfinite(fit_logistic(np.array([0.1, 0.9]), np.array([0.0, 1.0]))).all()
    with pytest.raises(ValueError, match="no masks to fit a calibration on"):
        fit_logistic(np.zeros(0), np.zeros(0))


def test_a_calibration_is_used_where_it_was_fitted_alone(tmp_path: Path) -> None:
    model = tiny_model("dit")
    settings = plain(Segmenter(model).calibrated_settings)
    replace(CURVE, settings=settings).save(tmp_path / "own.json")
    segmenter = Segmenter(model, calibration=tmp_path / "own.json")
    found = segmenter(photo(0), "cat,sky")
    assert found.calibration == replace(CURVE, settings=settings) and found.raw_confidence != found.confidence
    assert segmenter(photo(0), "cat,sky", method="vanilla").calibration is None
    assert Segmenter(model)(photo(0), "cat,sky").calibration is None
    explained = segmenter.explain(photo(0), "cat,sky")
    explained.save_npz(tmp_path / "a.npz")
    assert Explanation.load_npz(tmp_path / "a.npz").result.confidence == explained.result.confidence == found.confidence
    for options in ({"method": "vanilla"}, {"fast": True}, {"keep_aspect": True}, {"size": 16}):
        with pytest.raises(ValueError, match="the calibration was fitted for other settings"):
            Segmenter(model, calibration=tmp_path / "own.json", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["scenes-dit", "scenes-unet", "scenes-mmdit"])
def test_embedded_models_come_with_their_calibration(name: str) -> None:
    segmenter = Segmenter.from_pretrained(name, device="cpu")
    assert segmenter.calibration is not None and segmenter.calibration.slope > 0
    assert "images of scenes" in segmenter.calibration.meaning
    scene = make_scene(4, 0)
    known, strange = segmenter(scene.image, list(scene.classes)), segmenter(photo(3, 64, 64), list(scene.classes))
    assert known.calibration is not None and not known.notes
    assert strange.calibration is None and strange.notes and strange.confidence == strange.raw_confidence
    assert Segmenter(segmenter.model, "paper").calibration is None
    assert Segmenter(segmenter.model, fast=True).calibration is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slope": -1}, "'slope' is -1 and no number from 0"),
        ({"slope": "5"}, "'slope' is \"5\" and no number"),
        ({"format": 2}, "format 2 of a newer goca"),
        ({"data": ""}, "'data' is \"\" and no text"),
        ({"settings": [1]}, "its settings are no object"),
        ({"more": 1}, "'more' is no field of it"),
    ],
)
def test_damaged_files_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**CURVE.to_json(), **change}))
    with pytest.raises(ValueError, match=r"a\.json holds no calibration") as refusal:
        load_calibration(tmp_path / "a.json")
    assert message in str(refusal.value)
