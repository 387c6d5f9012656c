"""``goca calibrate`` and ``goca absent`` on a tiny pipeline: fit, measure elsewhere, use, refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from goca.calibration import load_calibration
from goca.cli import app
from goca.export.folder import write_classes

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder with the data set ``data`` of four images."""
    monkeypatch.chdir(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    write_classes(tmp_path / "data", ["cat", "sky", "dog"])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / f"data/images/{seed}.png")
        labels = np.kron(rng.integers(0, 2, (2, 2)), np.ones((10, 12))).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / f"data/labels/{seed}.png")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def refusal(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    return result.stderr


def test_fit_measure_and_use(run: Run, dit_folder: Path, tmp_path: Path) -> None:
    words = ("--dataset", "folder", "--root", "data", "--model", dit_folder)
    fitted = json.loads(run("calibrate", *words, "--out", "own/fit.json", "--extra", "1", "--json").stdout)
    assert fitted["file"] == str(Path("own/fit.json")) and fitted["after"]["meaning"].startswith("expected IoU")
    curve = load_calibration(tmp_path / "own/fit.json")
    assert curve.data == "4 images of folder with 0 to 1 names too many, seed 0"
    measured = json.loads(run("calibrate", *words, "--calibration", "own/fit.json", "--extra", "1", "--json").stdout)
    assert {key: measured[key] for key in ("before", "bins", "after")} == {
        key: fitted[key] for key in ("before", "bins", "after")
    }
    shown = run("calibrate", *words, "--limit", "2")
    assert "error before: " in shown.stdout and "error after" not in shown.stdout

    segment = ("segment", "data/images/0.png", "--classes", "cat,sky", "--model", dit_folder, "--out", "masks")
    assert run(*segment, "--calibration", "own/fit.json", "--format", "json").exit_code == 0
    content = json.loads((tmp_path / "masks/0.json").read_text())
    assert content["confidence"] == curve.meaning
    message = refusal(run(*segment, "--calibration", "own/fit.json", "--preset", "vanilla", "--overwrite"))
    assert "the calibration was fitted for other settings (another method)" in message
    assert "is damaged or no JSON" in refusal(run(*segment, "--calibration", "data/classes.txt", "--overwrite"))


def test_nothing_is_replaced_or_mixed(run: Run, dit_folder: Path, tmp_path: Path) -> None:
    words = ("calibrate", "--dataset", "folder", "--root", "data", "--model", dit_folder)
    (tmp_path / "fit.json").write_text("mine")
    assert "fit.json exists already" in refusal(run(*words, "--out", "fit.json"))
    assert "leave out one of the two" in refusal(run(*words, "--out", "new.json", "--calibration", "fit.json"))
    assert (tmp_path / "fit.json").read_text() == "mine" and not (tmp_path / "new.json").exists()


def test_images_that_fail_are_named(run: Run, dit_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data/images/1.png").write_bytes(b"no image")
    result = run("calibrate", "--dataset", "folder", "--root", "data", "--model", dit_folder, "--json")
    assert result.exit_code == 1 and "1.png failed" in result.stderr
    assert json.loads(result.stdout)["images"] == 3


def test_absent_names_are_measured(run: Run, dit_folder: Path) -> None:
    words = ("absent", "--dataset", "folder", "--root", "data", "--model", dit_folder, "--limit", "3")
    answer = json.loads(run(*words, "--json").stdout)
    assert answer["images"] == 3 and answer["absent"] + answer["present"] == 9
    assert answer["least_gain"] in [each["gain"] for each in answer["thresholds"]]
    shown = run(*words).stdout
    assert "(used)" in shown and f"{answer['absent']} names are absent, {answer['present']} present" in shown
