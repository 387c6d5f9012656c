"""``goca evaluate`` and ``goca ablate``: answers, files, refusals, and a run that is killed in the middle."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
from typer.testing import CliRunner, Result

import goca
from goca.cli import app
from goca.datasets import DATASETS
from goca.evaluation.experiment import unknown_words
from goca.method import BASELINES, PRESETS
from goca.models.specs import MODELS

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def toy_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on the toy data set and its tiny model; image 1 cannot be read."""
    asked: dict[str, Any] = {}

    def open_dataset(key: str, **options: Any) -> toy.Toy:
        print("noise of a library")
        asked.update(options)
        return toy.Toy(5, broken=(1,))

    monkeypatch.setattr("goca.evaluation.experiment.open_dataset", open_dataset)
    monkeypatch.setattr("goca.cli.options.ModelOptions.load", lambda options, preset=None: toy.segmenter())
    run.asked = asked  # type: ignore[attr-defined]
    return run


def refusal(result: Result) -> str:
    """The one sentence of a refused command."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("goca: ")]
    return line


def test_the_interface_that_other_programs_call(run: Run) -> None:
    words = ("evaluate", "--dataset", "scenes", "--limit", 3, "--seed", 5, "--presets", "vanilla,paper", "--json")
    result = run(*words)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [entry["preset"] for entry in answer["results"]] == ["vanilla", "paper"]
    for entry in answer["results"]:
        assert entry["miou"] == pytest.approx(sum(entry["per_class"].values()) / len(entry["per_class"]))
        assert 0.4 < entry["miou"] < entry["pixel_accuracy"] <= 1 and 0 < entry["boundary_iou"] < entry["miou"]
        assert entry["images"] == 3 and entry["threshold"] is None
    assert (answer["model"], answer["dataset"], answer["failures"]) == ("scenes-dit", "scenes", [])
    assert list(Path().iterdir()) == []


def test_a_folder_gets_records_results_and_a_report(toy_run: Run) -> None:
    words = ("evaluate", "--dataset", "voc", "--protocol", "paper", "--presets", "paper,daam", "--seed", 3)
    result = toy_run(*words, "--out", "o", "--root", "somewhere", "--batch", 2)
    assert result.exit_code == 1, result.output  # an image failed
    assert toy_run.asked == {"root": Path("somewhere"), "split": "train"}  # type: ignore[attr-defined]
    assert "daam" in result.stdout and "note: 1.png failed: 1.png is damaged; get it again" in result.stderr
    assert sorted(path.name for path in Path("o").iterdir()) == ["records.jsonl", "report.html", "results.json"]
    answer = json.loads(Path("o/results.json").read_text())
    assert answer["failures"] == [{"image": "1.png", "reason": "1.png is damaged; get it again"}]
    assert answer["settings"]["seed"] == 3 and answer["settings"]["protocol"]["split"] == "train"
    assert len(answer["results"][0]["sweep"]) == 9 and (answer["image_list"], answer["words"]) == ("all images", "own")
    records = [json.loads(line) for line in Path("o/records.jsonl").read_text().splitlines()]
    assert records[0]["config"] == answer["settings"]
    assert [record["index"] for record in records[1:]] == [0, 1, 2, 3, 4]

    page = Path("o/report.html").read_text()
    for part in ("1.png is damaged", "Threshold of the background", "<polyline", "Best images", "Worst images", "daam"):
        assert part in page
    # four images that did not fail: image, truth and two methods, and the image once more in the explorer
    assert page.count('<img src="data:image/jpeg') == 4 * 4 and page.count("data:image/jpeg") == 5 * 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)

    again = toy_run(*words, "--out", "o", "--resume", "--batch", 2, "--json")
    assert again.exit_code == 1
    assert json.loads(Path("o/results.json").read_text()) == answer
    assert "paper was true and is now false" not in again.stderr


def test_ablate_prints_one_row_per_combination(toy_run: Run) -> None:
    result = toy_run("ablate", "--dataset", "voc", "--limit", 1)
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in result.stdout.splitlines() if "│" in line]
    assert rows == [["", "", ""], ["x", "", ""], ["", "x", ""], ["", "", "x"], ["x", "x", "x"]]
    answer = json.loads(toy_run("ablate", "--dataset", "voc", "--limit", 1, "--json").stdout)
    assert [entry["preset"] for entry in answer["results"]] == ["none", "head", "layer", "rescale", "all"]


def test_captions_from_a_file(toy_run: Run) -> None:
    names = {f"{index}.png": {"caption": "lawn"} for index in (0, 1, 2, 9)}
    Path("captions.json").write_text(json.dumps(names))
    result = toy_run("evaluate", "--dataset", "voc", "--presets", "paper", "--captions", "captions.json", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["captions_without_image"] == 1
    assert "note: 1 captions belong to none of the images" in result.stderr
    lacking = "captions.json has no caption for 2 of the 5 images: 3.png, 4.png; write them with goca caption"
    assert lacking in result.stderr
    assert [entry["image"] for entry in answer["failures"]] == ["1.png", "3.png", "4.png"]
    lost = ", ".join(f"{name} (in {count} images)" for name, count in answer["missed"].items())
    assert lost and f"as the caption lacks them or is too long: {lost}" in result.stderr
    assert answer["never_named"] and f"never looked for at all: {', '.join(answer['never_named'])}" in result.stderr
    assert answer["settings"]["captions"]["file"] == "captions.json"
    words = ("--presets", "paper", "--captions", "captions.json", "--alignment", "published", "--no-refine", "--json")
    settings = json.loads(toy_run("evaluate", "--dataset", "voc", *words).stdout)["settings"]
    assert settings["alignment"] == "published" and settings["methods"]["paper"]["refine_order"] == 0
    Path("captions.json").write_text('{"a.png": {"caption": "cat"}}')
    result = toy_run("evaluate", "--dataset", "voc", "--captions", "captions.json")
    assert "captions.json has a caption for none of the 5 images, which are called 0.png" in refusal(result)


def test_by_protocol_paper_the_caption_file_is_the_list(toy_run: Run) -> None:
    words = ("evaluate", "--dataset", "voc", "--protocol", "paper", "--captions", "captions.json", "--no-refine")
    Path("captions.json").write_text(json.dumps({f"{index}.png": {"caption": "cat"} for index in (3, 0)}))
    result = toy_run(*words, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["results"][0]["images"] == answer["settings"]["images"] == 2
    assert answer["image_list"] == "those of all images that captions.json names" and answer["notes"] == []
    assert answer["settings"]["alignment"] == "published"
    assert "images: those of all images that captions.json names; words: own; alignment: published" in " ".join(
        toy_run(*words).stdout.split()
    )
    entries = {f"{index}.png": {"caption": "cat"} for index in (0, 7, 8, 9, 10)}
    Path("captions.json").write_text(json.dumps(entries))
    line = refusal(toy_run(*words, "--out", "o"))
    assert "captions.json names 4 images that toy lacks (all images): 7.png, 8.png, 9.png ...; give" in line
    assert not Path("o").exists()


def test_settings_of_the_method_hold_for_every_method(toy_run: Run) -> None:
    words = ("evaluate", "--dataset", "voc", "--limit", 1, "--heads", "cosine", "--set", "pamr=2", "--timestep", 50)
    words = (*words, "--layers", "mse", "--layer-set", "all", "--rescale", "raw", "--refine-order", 0)
    words = (*words, "--background-rule", "avg", "--set", "threshold=0.3", "--protocol", "paper")
    answer = json.loads(toy_run(*words, "--json").stdout)
    given = {"heads": "cosine", "layers": "mse", "layer_set": "all", "rescale": "raw", "refine_order": 0}
    given |= {"background": "avg", "timestep": 50, "pamr": 2}
    for name in ("vanilla", "paper"):
        assert given.items() <= answer["settings"]["methods"][name].items()
        assert given.items() <= answer["methods"][name].items()
    assert [entry["threshold"] for entry in answer["results"]] == [0.3, 0.3]  # instead of the sweep
    own = json.loads(toy_run("evaluate", "--dataset", "voc", "--limit", 1, "--json").stdout)
    assert (own["methods"]["paper"]["timestep"], own["methods"]["paper"]["refine_order"]) == (100, 1)
    shown = " ".join(toy_run(*words).stdout.split())
    assert "settings of the method: timestep 50, heads cosine, layers mse, layer_set all" in shown and "pamr 2" in shown

    answer = json.loads(toy_run("ablate", *words[1:-4], "--json").stdout)
    rows = {name: row["heads"] for name, row in answer["settings"]["methods"].items()}
    assert rows == {"none": "average", "head": "cosine", "layer": "average", "rescale": "average", "all": "cosine"}
    assert {row["timestep"] for row in answer["settings"]["methods"].values()} == {50}


def test_a_setting_without_effect_is_noted(toy_run: Run) -> None:
    words = ("evaluate", "--dataset", "voc", "--limit", 1, "--presets", "paper", "--layer-set", "reference")
    assert "note: layer rule 'mse' has no effect: only one layer" in toy_run(*words, "--layers", "mse").stderr


def test_several_models_and_methods(toy_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(options: Any) -> Any:
        loaded.append(options.model)
        return toy.segmenter({"scenes-dit": "dit", "scenes-unet": "unet"}[options.model])

    monkeypatch.setattr("goca.cli.options.ModelOptions.load", load)
    words = ("evaluate", "--dataset", "voc", "--presets", "vanilla,paper,daam", "--csv", "t/all.csv", "--out", "o")
    result = toy_run(*words, "--model", "scenes-dit,scenes-unet", "--model", "scenes-dit", "--json")
    assert result.exit_code == 1 and loaded == ["scenes-dit", "scenes-unet"]  # image 1 cannot be read
    answer = json.loads(result.stdout)
    assert list(answer) == ["models"] and len(answer["models"]) == 2
    for each, name in zip(answer["models"], loaded, strict=True):
        written = json.loads(Path(f"o/{name}/results.json").read_text())
        assert [entry["miou"] for entry in each["results"]] == [entry["miou"] for entry in written["results"]]
        assert [entry["difference"] is None for entry in each["results"]] == [True, False, False]
        for entry in each["results"]:
            assert entry["interval"][0] <= entry["miou"] <= entry["interval"][1]
    first, _, third = answer["models"][1]["results"]
    assert third["difference"]["value"] == pytest.approx(third["miou"] - first["miou"], abs=1e-12)

    with Path("t/all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["preset"] for row in rows] == ["vanilla", "paper", "daam"] * 2
    assert float(rows[5]["miou"]) == third["miou"] and float(rows[5]["difference"]) == third["difference"]["value"]
    assert rows[0]["difference"] == "" and float(rows[5]["low"]) == third["interval"][0]
    for row, result in zip(rows, [each for model in answer["models"] for each in model["results"]], strict=True):
        shares = {key.removeprefix("iou "): float(row[key]) for key in row if key.startswith("iou ") and row[key]}
        assert shares == result["per_class"]

    Path("o/scenes-unet/records.jsonl").unlink()  # killed between the models
    assert json.loads(toy_run(*words, "--model", "scenes-dit,scenes-unet", "--resume", "--json").stdout) == answer
    shown = toy_run("evaluate", "--dataset", "voc", "--model", "scenes-dit,scenes-unet", "--limit", 1)
    assert shown.stdout.count("mIoU -") == 2 and "tiny on 1 images of toy" in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--heads", "dot"), "unknown head rule 'dot'"),
        (("--layers", "cosine"), "unknown layer rule 'cosine'; choose one of dot-product similarity"),
        (("--layer-set", "up_blocks.9"), "unknown layer set 'up_blocks.9'; choose one of selected"),
        (("--layer-set", "manual"), "scenes-dit has no hand-picked layers"),
        (("--rescale", "sum"), "unknown rescaling rule 'sum'"),
        (("--background-rule", "min"), "unknown background rule 'min'"),
        (("--set", "timestep=1000"), "timestep is a whole number from 1 to 999, not 1000"),
        (("--timestep", 700, "--set", "timesteps=2"), "2 timesteps around 700 reach 1050, beyond 999"),
        (("--set", "heads"), "'heads' sets nothing; write KEY=VALUE"),
        (("--set", "head=cosine"), "unknown setting of the method 'head' (did you mean 'heads'?)"),
        (("--set", "flip=1"), "flip is True or False, not '1'"),
        (("--set", "pamr=-1"), "pamr is a whole number of at least 0, not -1"),
        (("--heads", "cosine", "--set", "heads=cosine"), "the method's heads is given twice"),
        (("--csv", "."), ". is a folder; name a file for the table"),
        (("--csv", "file/x.csv"), "cannot write to the folder file (file is a file)"),
        (("--model", "scenes-dit,scenes-ditt"), "unknown model 'scenes-ditt' (did you mean 'scenes-dit'?)"),
        (("--model", ","), "name at least one model, for example scenes-dit"),
        (("--model", ""), "name at least one model"),
        (("--model", "scenes-dit,sana", "--layers", "mse"), "sana has no self-attention maps"),
        (("--model", "scenes-dit,scenes-unet", "--lora", "x"), "--lora belongs to one model; leave it out"),
        (("--presets", "paper,best"), "unknown preset 'best'; choose one of"),
        (("--presets", ","), "name at least one preset"),
        (("--protocol", "mine"), "unknown protocol 'mine'; choose one of paper, standard"),
        (("--alignment", "loose"), "unknown alignment 'loose'; choose one of exact, published"),
        (("--resume",), "--resume continues the results of a folder; name it with --out"),
        (("--captions", "gone.json"), "gone.json"),
        (("--out", "file"), "cannot write to the folder file (file is a file)"),
        (("--presets", "manual"), "scenes-dit has no hand-picked layers for the preset 'manual'"),
    ],
)
def test_refused_runs_write_nothing(toy_run: Run, words: tuple[str, ...], message: str) -> None:
    Path("file").touch()
    assert message in refusal(toy_run("evaluate", "--dataset", "voc", *words))
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_resumed_run_with_other_settings_is_refused(toy_run: Run) -> None:
    words = ("evaluate", "--dataset", "voc", "--presets", "vanilla", "--limit", 1, "--out", "o")
    assert toy_run(*words).exit_code == 0
    assert "o/records.jsonl holds results already" in refusal(toy_run(*words))
    message = refusal(toy_run(*words, "--resume", "--seed", 1, "--threshold", 0.5))
    assert "seed was 0 and is now 1; protocol threshold was null and is now 0.5" in message


def test_a_run_in_which_every_image_fails_says_so(toy_run: Run) -> None:
    Path("captions.json").write_text('{"1.png": {"caption": "cat"}}')
    result = toy_run("evaluate", "--dataset", "voc", "--captions", "captions.json", "--out", "o", "--limit", 2)
    assert result.exit_code == 1
    assert "note: 0.png failed: there is no caption for 0.png; add one to the caption file" in result.stderr
    assert "0 images, protocol standard" in Path("o/report.html").read_text()


def test_words_that_a_small_model_has_never_seen_are_named() -> None:
    (note,) = unknown_words(MODELS["scenes-dit"], ("sky", "pole"))
    assert note == "scenes-dit has never seen the words pole; take a big model, e.g. --model sd15"
    assert unknown_words(MODELS["sd15"], ("pole",)) == unknown_words(MODELS["scenes-dit"], ("fire engine",)) == []


def test_unknown_data_sets_are_refused(run: Run) -> None:
    shown = run("evaluate", "--help").stdout
    assert all(name in shown for name in (*DATASETS, "published", *PRESETS, *BASELINES))
    assert "scenes" in refusal(run("evaluate", "--dataset", "imagenet"))


@pytest.mark.slow
def test_a_killed_run_is_continued_to_the_same_bytes(run: Run) -> None:
    words = ["evaluate", "--limit", "16", "--seed", "5", "--batch", "2", "--presets", "vanilla", "--out"]
    records = Path("killed/records.jsonl")
    command = [sys.executable, "-c", "from goca.cli import main; main()", *words, "killed"]
    environment = {**os.environ, "PYTHONPATH": str(Path(goca.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (records.exists() and records.read_bytes().count(b"\n") > 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = records.read_bytes().count(b"\n") - 1
    assert 2 <= kept < 16 and not Path("killed/results.json").exists()
    assert run(*words, "killed", "--resume").exit_code == 0
    assert run(*words, "whole").exit_code == 0
    assert Path("killed/results.json").read_bytes() == Path("whole/results.json").read_bytes()
    assert records.read_bytes() == Path("whole/records.jsonl").read_bytes()
