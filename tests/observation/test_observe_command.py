"""``goca observe``: its answer, its files and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from goca.cli import app
from goca.cli.observe import parse_pixel
from goca.observation import Explanation

Run = Callable[..., Result]


@pytest.fixture
def run(unet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command on a random image of 50 x 30 pixels and the tiny UNet."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = ("observe", "photo.png", "--classes", "cat,grass", "--model", str(unet_folder), "--out", "out")
    return lambda *more: CliRunner().invoke(app, [*words, *map(str, more)])


def refusal(result: Result) -> str:
    """The one sentence of a refused command."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("goca: ")]
    return line


def test_json_and_files(run: Run, tmp_path: Path) -> None:
    result = run("--at", "3,4", "--at", "49,29", "--layer", 1, "--head", 0, "--records", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer["shares"]) == {"special", "content", "stuff"}
    assert sum(answer["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert [(pixel["x"], pixel["y"]) for pixel in answer["pixels"]] == [(3, 4), (49, 29)]
    assert all(sum(pixel["tokens"]) == pytest.approx(1, abs=1e-5) for pixel in answer["pixels"])
    assert {Path(path).name for path in answer["files"].values()} == {
        each.name for each in (tmp_path / "out").iterdir()
    }
    written = json.loads((tmp_path / "out" / "photo_explanation.json").read_text())
    assert written == {key: value for key, value in answer.items() if key != "files"}
    loaded = Explanation.load_npz(answer["files"]["npz"])
    assert [layer.head_maps is not None for layer in loaded.layers][:2] == [False, True]


def test_text_answer(run: Run) -> None:
    result = run("--at", "3,4")
    assert result.exit_code == 0, result.output
    assert "attention to the text: special" in result.stdout
    assert "pixel 3,4: " in result.stdout
    assert "(2 heads)" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "mid"], "unknown aggregated layer 'mid'; choose one of down_blocks"),
        (["--layer", "99"], "or a number from 0 to"),
        (["--head", "2"], "has no head 2; choose one from 0 to 1"),
        (["--layer", "0", "--head", "7"], "has no head 7; choose one from 0 to 1"),
        (["--at", "50,0"], "outside the image of 50 x 30 pixels; give X from 0 to 49 and Y from 0 to 29"),
        (["--at", "5"], "--at takes a pixel as two whole numbers, X,Y"),
        (["--classes", "grass"], "'grass' is named more than once"),
        (["--caption", "a cat"], "The caption does not mention 'grass'"),
        (["--preset", "best"], "unknown preset 'best'"),
    ],
)
def test_refusals_write_nothing(run: Run, words: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal(run(*words))
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_read_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"no image")
    assert "photo.png" in refusal(run())
    assert not (tmp_path / "out").exists()


def test_files_of_an_earlier_run(run: Run) -> None:
    assert run().exit_code == 0
    assert "--overwrite" in refusal(run())
    assert run("--overwrite").exit_code == 0


@pytest.mark.parametrize("text", ["", "5", "5,", "a,b", "1.5,2", "-1,2", "1,2,3", "1 2", "9999999999,1", "\u0661,2"])
def test_pixels_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--at takes a pixel as two whole numbers"):
        parse_pixel(text)


def test_spaces_around_a_pixel_do_not_matter() -> None:
    assert parse_pixel(" 12 , 3 ") == (12, 3)
