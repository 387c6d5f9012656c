"""The command line, on a tiny pipeline with random weights: answers, files, refusals in one sentence, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import goca
from goca.cli import app
from goca.cli.common import split_list
from goca.datasets.scenes import CLASS_NAMES, make_scene

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def refusal(result: Result) -> str:
    """The one sentence on standard error of a refused command that wrote nothing to standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("goca: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


def test_help_names_every_command_without_loading_torch(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    evaluating, drawing = (
        ("evaluate", "ablate", "reproduce", "caption", "verify", "bench"),
        ("generate", "guidance-table"),
    )
    for command in ("segment", "models", "scenes", *evaluating, *drawing):
        assert command in result.stdout
        assert run(command, "--help").exit_code == 0
    code = "import sys, goca.cli; sys.exit('torch' in sys.modules)"
    sources = Path(goca.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=sources, check=False).returncode == 0


def test_models(run: Run) -> None:
    answer = json.loads(run("models", "--json").stdout)
    assert answer["default"] == "scenes-dit"
    assert {"scenes-dit", "scenes-unet", "sd15", "pixart-sigma"} <= {model["name"] for model in answer["models"]}
    table = run("models").stdout
    for model in answer["models"]:  # Nothing is cut off in a terminal of 80 columns.
        assert model["name"] in table
    assert "…" not in table


def test_scenes_are_written_whole(run: Run, tmp_path: Path) -> None:
    answer = json.loads(run("scenes", "--count", 2, "--seed", 7, "--size", 64, "--out", "s", "--json").stdout)
    assert answer["count"] == 2
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "captions.json",
        "classes.txt",
        "images",
        "labels",
    ]
    names = (tmp_path / "s/classes.txt").read_text().splitlines()
    assert tuple(names) == CLASS_NAMES
    captions = json.loads((tmp_path / "s/captions.json").read_text())
    for index in range(2):
        scene, name = make_scene(7, index, 64), f"{index:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "s/images" / name)), np.asarray(scene.image))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "s/labels" / name)), scene.labels)
        assert captions[name] == {"caption": scene.caption}


def test_scenes_are_not_mixed_with_others(run: Run) -> None:
    run("scenes", "--count", 1, "--out", "s")
    assert "s/classes.txt exists already; replace it with --overwrite" in refusal(
        run("scenes", "--count", 1, "--out", "s")
    )


def test_scenes_need_a_folder(run: Run, photo: Path) -> None:
    assert "cannot write to the folder photo.png" in refusal(run("scenes", "--count", 1, "--out", "photo.png"))


def test_segment_writes_files_and_json(run: Run, photo: Path, tmp_path: Path, dit_folder: Path) -> None:
    result = run("segment", photo, "--classes", "cat, grass", "--classes", "sky", "--model", dit_folder, "--json")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)["results"]
    assert [entry["name"] for entry in answer["classes"]] == ["cat", "grass", "sky"]
    assert sum(entry["area"] for entry in answer["classes"]) == pytest.approx(1)
    assert set(answer["files"]) == {"labels", "overlay", "json", "heat cat", "heat grass", "heat sky"}
    assert all((tmp_path / path).is_file() for path in answer["files"].values())
    assert Image.open(tmp_path / "goca-out/photo_labels.png").size == (50, 30)


def test_segment_says_where_the_pictures_are(run: Run, photo: Path, dit_folder: Path) -> None:
    result = run("segment", photo, "--classes", "cat,sky", "--model", dit_folder, "--out", "o")
    assert result.exit_code == 0, result.output
    assert "photo.png: cat" in result.stdout and "o/photo_overlay.png" in result.stdout


def test_threshold_adds_the_background(run: Run, photo: Path, dit_folder: Path) -> None:
    words = ("segment", photo, "--classes", "cat,sky", "--model", dit_folder, "--json", "--overwrite")
    for threshold, least, most in (("1", 0.9, 1), ("-1", 0, 0)):
        result = run(*words, "--threshold", threshold)
        assert result.exit_code == 0, result.output
        background = json.loads(result.stdout)["results"][0]["classes"][-1]
        assert background["name"] == "background" and least <= background["area"] <= most


def test_unsure_pixels_are_ignored(run: Run, photo: Path, dit_folder: Path) -> None:
    words = ("segment", photo, "--classes", "cat,sky", "--model", dit_folder, "--overwrite", "--ignore-below", "0.2")
    answer = json.loads(run(*words, "--json").stdout)["results"][0]
    assert 0 < answer["ignored"] < 1
    assert answer["ignored"] + sum(each["area"] for each in answer["classes"]) == pytest.approx(1, abs=1e-5)
    assert f", ignored {answer['ignored']:.0%}" in run(*words).stdout
    assert "'--ignore-below': Input should be less than or equal to 1" in refusal(run(*words[:-1], "2"))


def test_settings_of_the_method_are_shown(run: Run, photo: Path, dit_folder: Path) -> None:
    words = ("segment", photo, "--classes", "cat,sky", "--model", dit_folder, "--overwrite")
    own = json.loads(run(*words, "--json").stdout)["method"]
    assert (own["heads"], own["timestep"], own["threshold"]) == ("dot-product w/o clamp", 100, None)
    settings = ("--heads", "average", "--timestep", 50, "--set", "pamr=3", "--threshold", 0.1)
    found = json.loads(run(*words, *settings, "--json").stdout)["method"]
    assert found == {**own, "heads": "average", "timestep": 50, "pamr": 3, "threshold": 0.1}
    shown = run(*words, *settings).stdout
    assert "settings of the method: timestep 50, heads average, threshold 0.1, pamr 3" in shown
    message = refusal(run(*words, "--set", "heads=nonsense"))
    assert "unknown head rule 'nonsense'; choose one of average" in message


def test_images_of_the_same_name_do_not_overwrite_each_other(
    run: Run, photo: Path, tmp_path: Path, dit_folder: Path
) -> None:
    (tmp_path / "other").mkdir()
    Image.new("L", (9, 8)).save(tmp_path / "other/photo.png")
    result = run("segment", photo, tmp_path / "other/photo.png", "--classes", "cat,sky", "--model", dit_folder)
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "goca-out/photo_labels.png").size == (50, 30)
    assert Image.open(tmp_path / "goca-out/photo-2_labels.png").size == (9, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.png", "--classes", "cat"), "no such image file: gone.png"),
        (("photo.png", "gone.png", "--classes", "cat"), "no such image file: gone.png"),
        (("photo.png", "--classes", " , "), 'name at least one class, for example --classes "cat,grass,sky"'),
        (("photo.png", "--classes", "cat,cat"), "cat"),
        (("https://example.org/a.png", "--classes", "cat"), "https://example.org/a.png is a web address"),
        (("photo.png", "--classes", "cat", "--out", "photo.png/x"), "cannot write to the folder photo.png/x"),
        (("photo.png", "--classes", "cat", "--device", "toaster"), "unknown device 'toaster'; use cpu"),
        (("photo.png", "--classes", "cat", "--preset", "best"), "unknown preset 'best'; choose one of paper"),
    ],
)
def test_refused_segmentations_write_nothing(
    run: Run, photo: Path, dit_folder: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refusal(run("segment", *words, "--model", dit_folder))
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_unknown_model_lists_the_known_ones(run: Run, photo: Path) -> None:
    message = refusal(run("segment", photo, "--classes", "cat", "--model", "sd99"))
    assert "sd99" in message and "scenes-dit" in message


def test_verify_fails_on_a_broken_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "case.safetensors").write_bytes(b"not a safetensors file")
    result = run("verify", "case.safetensors")
    assert result.exit_code == 1 and result.stdout.startswith("unknown  case  nan  fail")
    answer = json.loads(run("verify", "case.safetensors", "--json").stdout)
    assert answer["passed"] is False and answer["checks"][0]["difference"] is None


def test_verify_passes_only_when_all_pass(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from goca.golden.verify import Check

    checks = [Check("maps", "a", 1e-7, 1e-4, True)]
    monkeypatch.setattr("goca.golden.verify.verify", lambda paths, tokenizer: iter(checks))
    result = run("verify", "x")
    assert result.exit_code == 0 and result.stdout == "maps  a  1.00e-07  pass\n"
    checks.append(Check("maps", "b", 1.0, 1e-4, False))
    assert run("verify", "x").exit_code == 1


def test_verify_refuses_what_is_not_there(run: Run) -> None:
    assert "gone does not exist" in refusal(run("verify", "gone"))


def test_bench_prints_ratios(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def measure(model: str, **options: Any) -> dict[str, Any]:
        seen.update(model=model, **options)
        return {"ratios": {"time": 1.1, "memory": 1.05}}

    monkeypatch.setattr("goca.bench.bench", measure)
    assert json.loads(run("bench", "sd15", "--random-weights", "--size", 64, "--json").stdout)["ratios"]["time"] == 1.1
    assert seen == {"model": "sd15", "random_weights": True, "size": 64}
    assert "ratios memory" in run("bench", "sd15").stdout


def test_lists_split_at_commas() -> None:
    assert split_list(["cat, fire engine ,", "sky"]) == ["cat", "fire engine", "sky"]


def test_segment_writes_the_formats_that_are_named(run: Run, photo: Path, tmp_path: Path) -> None:
    words = ("segment", photo, "--classes", "grass,sky", "--out", "out", "--json")
    assert "unknown format 'yollo' (did you mean 'yolo'?)" in refusal(run(*words, "--format", "cvat,yollo"))
    assert "unknown format 'video'" in refusal(run(*words, "--format", "video"))
    assert not (tmp_path / "out").exists()
    answer = json.loads(run(*words, "--format", "cvat,geojson").stdout)
    assert list(answer["results"][0]["files"]) == ["geojson"]
    assert answer["files"] == {"cvat": str(Path("out") / "cvat.zip")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cvat.zip", "photo.geojson"]
    shown = run(*words[:-1], "--format", "cvat,geojson", "--overwrite").stdout
    assert "photo.geojson" in shown and "cvat.zip" in shown


def test_segment_a_folder(run: Run, photo: Path, tmp_path: Path, dit_folder: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "c.png").write_bytes(b"no image")
    (tmp_path / "classes.txt").write_text("cat\nsky\n")
    words = ("segment", "photos", "--model", dit_folder, "--format", "labels,coco", "--out", "out", "--json")
    result = run(*words, "--classes-file", "classes.txt")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert [Path(each["image"]).name for each in answer["results"]] == ["a.png", "b.png"]
    assert [Path(each["image"]).name for each in answer["failures"]] == ["c.png"]
    assert "c.png failed: " in result.stderr
    (folder / "c.png").write_bytes(photo.read_bytes())
    resumed = json.loads(run(*words, "--classes-file", "classes.txt", "--resume").stdout)
    assert len(resumed["results"]) == 3 and "failures" not in resumed
    (tmp_path / "images.csv").write_text("image,classes\na.png,cat\nb.png,dog\n")
    message = refusal(run(*words[:-1], "--captions", "images.csv", "--overwrite"))
    assert "1 images have no entry in the list of classes or captions" in message
    (tmp_path / "images.csv").write_text('image,classes\na.png,cat\nb.png,"dog,sky"\nc.png,cat\n')
    answer = json.loads(run(*words, "--captions", "images.csv", "--overwrite").stdout)
    assert [[each["name"] for each in found["classes"]] for found in answer["results"]] == [
        ["cat"],
        ["dog", "sky"],
        ["cat"],
    ]
