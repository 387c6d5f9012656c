"""``goca reproduce``: the reported numbers, what is at hand, the tables in every format, a run that is killed."""

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
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from PIL import Image
from typer.testing import CliRunner, Result

import goca
from goca.cli import app
from goca.cli.options import DeviceOptions
from goca.evaluation.experiment import Experiment
from goca.evaluation.generation import scenes
from goca.evaluation.reproduce import at_hand
from goca.evaluation.reproduce.experiment import reproduce
from goca.evaluation.reproduce.reported import DATASETS, TABLES, TITLES
from goca.evaluation.reproduce.table import Cell, Table, to_csv, to_html, to_latex
from goca.guidance.generate import Generation
from goca.models.specs import MODELS
from goca.segmenter import Segmenter

ROOT = Path(goca.__file__).parents[2]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["reproduce", *map(str, words)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with three images of VOC's training list and captions of two of them."""
    base = tmp_path / "data/voc/VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(base / f"JPEGImages/{name}.jpg")
        labels = np.zeros((30, 40), np.uint8)
        labels[5:20, 4:20], labels[10:28, 22:38] = 8, 12
        Image.fromarray(labels).save(base / f"SegmentationClass/{name}.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\n")
    captions = {f"{name}.jpg": {"caption": "Cat, dog."} for name in "ab"}
    (tmp_path / "data/captions").mkdir()
    (tmp_path / "data/captions/voc.json").write_text(json.dumps(captions))
    return tmp_path / "data"


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every load gives a tiny model; the list holds what was asked for. SDXL alone is not on this machine."""
    loaded: list[str] = []

    def load(options: DeviceOptions) -> Segmenter:
        loaded.append(str(options.model))
        return toy.segmenter()

    def find(name: str, root: Path | None) -> str:
        if name == "sdxl":
            raise at_hand.Missing("sdxl: its checkpoint is not on this machine; get it with 'hf download x'")
        return name

    monkeypatch.setattr(DeviceOptions, "load", load)
    monkeypatch.setattr(at_hand, "find_checkpoint", find)
    return loaded


def refusal(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = [line for line in result.stderr.splitlines() if line]
    return line


def test_the_reported_numbers_are_those_of_the_documentation() -> None:
    lines = (ROOT / "docs/results.md").read_text().splitlines()
    models = {"SD 1.5": "sd15", "SDXL": "sdxl", "PixArt-Sigma": "pixart-sigma", "FLUX.1": "flux-dev"}
    methods = {TITLES[key]: key for key in ("vanilla", "fttm", "paper")}
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0] in methods and cells[1] in models:
            for dataset, value in zip(DATASETS, cells[2:], strict=True):
                found[methods[cells[0]], models[cells[1]], dataset] = float(value)
    assert found == TABLES["table-1"].numbers and len(found) == 35
    ablation = TABLES["ablation"].numbers
    for model in ("sd15", "sdxl"):
        whole = TABLES["table-1"].numbers["paper", model, "voc"]
        assert ablation["all", model, "voc"] == whole
    assert ablation["none", "sd15", "voc"] == found["vanilla", "sd15", "voc"]
    assert TABLES["generation"].numbers["goca", "sd15", "fid"] == 18.82


def test_embedded_models_on_scenes(run: Run) -> None:
    words = ("table-1", "--models", "scenes-dit,scenes-unet", "--limit", 3, "--out", "o", "--device", "cpu")
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    (table,) = json.loads(result.stdout)["tables"]
    assert (table["missing"], table["notes"]) == ([], [])
    keys = [(cell["model"], cell["method"], cell["column"]) for cell in table["cells"]]
    assert keys == [(model, row, "scenes") for model in ("scenes-dit", "scenes-unet") for row in ("vanilla", "paper")]
    for cell in table["cells"]:
        assert cell["low"] <= cell["ours"] <= cell["high"] and cell["images"] == 3
        assert cell["reported"] is None and cell["difference"] is None
    answer = Experiment.open("scenes", protocol="paper", limit=3).run(
        Segmenter.from_pretrained("scenes-dit", device="cpu"), {"paper": goca.method.PRESETS["paper"]}
    )
    assert table["cells"][1]["ours"] == pytest.approx(100 * answer["results"][0]["miou"], abs=1e-9)
    names = {f"table-1.{suffix}" for suffix in ("csv", "tex", "html", "json")}
    assert {path.name for path in Path("o").iterdir()} == names | {"table-1"}
    assert json.loads(Path("o/table-1.json").read_text()) == table

    records = Path("o/table-1/scenes-dit-scenes/records.jsonl")
    whole = records.read_bytes()
    records.write_bytes(whole[: whole.index(b"\n") + 5])  # killed while the first image was written down
    shown = run(*words)
    assert "scenes-unet" in shown.stdout and records.read_bytes() == whole
    assert json.loads(Path("o/table-1.json").read_text()) == table
    assert "was made with other settings" in refusal(run(*words[:3], "--limit", 2, "--out", "o", "--device", "cpu"))


def test_what_is_missing_is_listed(run: Run, data: Path, checkpoints: list[str]) -> None:
    result = run("table-1", "ablation", "--root", data, "--out", "o", "--json")
    assert result.exit_code == 0, result.output
    first, ablation = json.loads(result.stdout)["tables"]
    cells = {(cell["model"], cell["method"], cell["column"]): cell for cell in first["cells"]}
    assert checkpoints == ["sd15", "pixart-sigma", "flux-dev", "sd15"]
    assert {key: cell["reported"] for key, cell in cells.items() if cell["reported"] is not None} == {
        (model, row, column): value for (row, model, column), value in TABLES["table-1"].numbers.items()
    }
    own = cells["sd15", "paper", "voc"]
    assert own["images"] == 2  # those that the captions name
    assert own["difference"] == pytest.approx(own["ours"] - 60.7)
    assert own["difference_high"] == pytest.approx(own["high"] - 60.7)
    assert cells["pixart-sigma", "vanilla", "voc"]["reported"] is None
    assert cells["sd15", "fttm", "voc"]["ours"] is None and cells["sd15", "paper", "ade20k"]["ours"] is None
    assert [each.partition(":")[0] for each in first["missing"]] == [*DATASETS[1:], "sdxl"]
    assert "get the images and lists of Pascal VOC 2010" in first["missing"][0]
    assert ablation["missing"] == ["sdxl: its checkpoint is not on this machine; get it with 'hf download x'"]
    rows = [cell["method"] for cell in ablation["cells"] if cell["model"] == "sd15" and cell["ours"] is not None]
    assert rows == ["none", "head", "layer", "rescale", "all"]
    assert "missing: sdxl: its checkpoint" in result.stderr

    with Path("o/table-1.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(first["cells"]) and lines[0]["table"] == "table-1"
    own_line = next(
        line for line in lines if (line["model"], line["method"], line["column"]) == ("sd15", "paper", "voc")
    )
    assert (float(own_line["ours"]), float(own_line["reported"])) == (own["ours"], 60.7)
    latex = Path("o/table-1.tex").read_text()
    assert rf"sd15 & GoCA & 60.7 & {own['ours']:.1f} {{\scriptsize [" in latex and "% missing: context:" in latex
    ends = [line.count("&") for line in latex.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    assert set(ends) == {1 + 2 * 5}
    page = Path("o/table-1.html").read_text()
    assert f"{own['difference']:+.1f}" in page and "Not at hand" in page
    assert not re.search(r"(src|href)=", page)

    assert run("table-1", "--root", data, "--models", "sd15", "--limit", 1, "--out", "p").exit_code == 0
    noted = json.loads(Path("p/table-1.json").read_text())["notes"]
    assert "measured on at most 1 images, the reported numbers on all" in noted


def test_captions_are_needed_and_have_to_fit(run: Run, data: Path, checkpoints: list[str]) -> None:
    captions = data / "captions/voc.json"
    beside = data / "voc/captions.json"
    captions.rename(beside)
    words = ("table-1", "--root", data, "--models", "sd15", "--datasets", "voc")
    assert run(*words, "--out", "o").exit_code == 0
    names = {f"{name}.jpg": {"caption": "cat"} for name in "axyzw"}
    beside.write_text(json.dumps(names))
    assert "names 4 images that voc lacks (ImageSets/Segmentation/train.txt): x.jpg, y.jpg, z.jpg" in refusal(
        run(*words, "--out", "p")
    )
    beside.unlink()
    message = refusal(run(*words, "--out", "p"))
    assert "nothing is at hand for table-1 (missing: voc)" in message
    assert f"its captions; put the published caption file at {captions}, or write captions there" in message
    assert f"'goca caption --dataset voc --root {data}/voc --split train --question published --model NAME" in message
    assert not Path("p").exists()


def test_images_that_fail(run: Run, data: Path, checkpoints: list[str]) -> None:
    (data / "voc/VOCdevkit/VOC2012/JPEGImages/b.jpg").write_bytes(b"no image")
    result = run("table-1", "--root", data, "--models", "sd15", "--datasets", "voc")
    assert result.exit_code == 1
    assert "note: tiny on voc: 1 images failed, first b.jpg" in result.stderr
    (data / "voc/VOCdevkit/VOC2012/JPEGImages/a.jpg").write_bytes(b"no image")
    result = run("table-1", "ablation", "--root", data, "--models", "scenes-dit", "--datasets", "voc", "--out", "p")
    assert result.exit_code == 1 and "2 images failed, first a.jpg" in result.stderr
    assert Path("p/table-1.csv").read_text().startswith("table,model,method,column,reported,ours")
    assert json.loads(Path("p/ablation.json").read_text())["cells"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (),
            "nothing is at hand for table-1 or ablation or generation (missing: voc, context, coco-object, cityscapes",
        ),
        (("generation", "--root", "."), "missing: coco-30k); get what is missing, see docs/reproduce.md"),
        (("ablation", "--root", ".", "--models", "sd15"), "first, voc: "),
        (
            ("table-1", "--datasets", "scenes"),
            "first, sd15: its checkpoint is not on this machine; get it with 'hf down",
        ),
        (
            ("table-2",),
            "unknown table 'table-2' (did you mean 'table-1'?); choose one of table-1, ablation, generation",
        ),
        (
            ("generation", "--datasets", "voc"),
            "generation is measured on photographs, or on scenes for embedded models",
        ),
        (("--datasets", "voc,coco"), "unknown data set 'coco'"),
        (("--models", "sd155"), "unknown model 'sd155' (did you mean 'sd15'?)"),
        (("--models", ","), "name at least one model"),
        (("--datasets", ""), "name at least one data set"),
        (("--root", "gone"), "there is no folder gone; name the folder of the data sets with --root"),
        (("--models", "scenes-dit", "--out", "file"), "cannot write to the folder file (file is a file)"),
    ],
)
def test_refused_runs_write_nothing(run: Run, words: tuple[str, ...], message: str) -> None:
    Path("file").touch()
    assert message in refusal(run(*words))
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_where_a_checkpoint_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda source, name: str(tmp_path / source))
    assert at_hand.find_checkpoint("sd15", None) == "sd15"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda source, name: None)
    for name in ("scenes-dit", str(tmp_path)):
        assert at_hand.find_checkpoint(name, tmp_path) == name
    with pytest.raises(
        at_hand.Missing,
        match=f"get it with 'hf download stable.*', or put its whole pipeline at {tmp_path}/models/sd15",
    ):
        at_hand.find_checkpoint("sd15", tmp_path)
    both = (
        "'hf download PixArt-alpha/PixArt-Sigma-XL-2-512-MS && hf download PixArt-alpha/PixArt-Sigma-XL-2-1024-MS', or"
    )
    with pytest.raises(at_hand.Missing, match=both):
        at_hand.find_checkpoint("pixart-sigma-512", tmp_path)
    (tmp_path / "models/sd15").mkdir(parents=True)
    assert at_hand.find_checkpoint("sd15", tmp_path) == str(tmp_path / "models/sd15")


def test_a_checkpoint_among_the_data_has_the_settings_of_its_name(run: Run, data: Path) -> None:
    (data / "models").mkdir()
    for name in ("scenes-dit", "sd15"):
        (data / "models" / name).symlink_to(MODELS["scenes-dit"].source)
    words = ("table-1", "--root", data, "--models", "scenes-dit,sd15", "--limit", 1, "--datasets", "scenes", "--json")
    result = run(*words, "--device", "cpu", "--out", "o")
    assert result.exit_code == 0, result.output
    (table,) = json.loads(result.stdout)["tables"]
    assert {cell["model"] for cell in table["cells"]} == {"scenes-dit"}
    assert table["missing"] == [
        f"sd15: {data / 'models/sd15'} holds a PixArtAlphaPipeline, not a StableDiffusionPipeline; put sd15 there"
    ]
    settings = json.loads(Path("o/table-1/scenes-dit-scenes/results.json").read_text())["settings"]
    assert (settings["model"], settings["timestep"]) == ("scenes-dit", 200)


def test_a_checkpoint_that_is_incomplete_does_not_stop_the_others(tmp_path: Path) -> None:
    def load(name: str) -> Segmenter:
        if name == "scenes-unet":
            raise OSError("scenes-unet could not\nbe loaded completely\x1b")
        return toy.segmenter()

    (table,) = reproduce(["table-1"], models=["scenes-unet", "scenes-dit"], limit=1, out=tmp_path, load=load)
    assert table.missing == (r"scenes-unet: scenes-unet could not be loaded completely\x1b",)
    assert {cell.model for cell in table.cells} == {"scenes-dit"} and table.cells[0].low is None


@pytest.mark.slow
def test_generation_on_scenes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "REFERENCE", 12)
    words = ("generation", "--models", "scenes-dit", "--limit", 2, "--device", "cpu", "--out", "o")
    (table,) = json.loads(run(*words, "--json").stdout)["tables"]
    columns = ["frechet", "object_recall", "mask_miou"]
    assert [(cell["method"], cell["column"]) for cell in table["cells"]] == [
        (kind, column) for kind in ("cfg", "s-cfg", "goca") for column in columns
    ]
    assert all(0 <= cell["ours"] <= 100 for cell in table["cells"] if cell["column"] != "frechet")
    records = Path("o/generation/scenes-dit-scenes/records.jsonl")
    lines = records.read_bytes()
    records.write_bytes(lines[:-20])
    assert run(*words).exit_code == 0 and records.read_bytes() == lines
    assert "Frechet distance" in Path("o/generation.html").read_text()


class FakeMeasures:
    """Measures of two prompts: FID without an interval, as of photographs, and a CLIP score."""

    def __init__(self) -> None:
        self.columns = {"fid": "FID", "clip": "CLIP score"}
        self.prompts = ["cat, grass", "dog"]
        self.settings: dict[str, Any] = {}

    def things(self, index: int) -> None:
        """Nothing is segmented."""

    def measure(self, index: int, result: Generation) -> dict[str, Any]:
        return {"clip": 30.0 + index}

    def check(self, index: int, entry: dict[str, Any]) -> None:
        assert entry == self.measure(index, None)  # type: ignore[arg-type]

    def values(self, entries: Any, paths: Any, counts: Any) -> dict[str, np.ndarray]:
        clip = np.array([entry["clip"] for entry in entries])
        return {"fid": np.array([19.5]), "clip": counts @ clip / len(clip)}

    def real(self, counts: Any) -> None:
        """The photographs are what is compared with."""


def test_generation_of_photographs(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def choose(spec: Any, photos: Path, folder: Path, prompts: int, seed: int) -> FakeMeasures:
        asked.append((photos, prompts))
        return FakeMeasures()

    monkeypatch.setattr("goca.evaluation.reproduce.experiment.choose_measures", choose)
    monkeypatch.setattr("goca.evaluation.reproduce.experiment.GENERATION_STEPS", {"sd15": 2})
    monkeypatch.setattr(at_hand, "find_checkpoint", lambda name, root: name)
    monkeypatch.setattr(DeviceOptions, "load", lambda options: toy.segmenter("unet"))
    photographs = data / "coco-30k"
    (photographs / "images").mkdir(parents=True)
    captions = {f"{index}.png": {"caption": "cat"} for index in range(2)}
    (photographs / "captions.json").write_text(json.dumps(captions))
    (table,) = json.loads(run("generation", "--root", data, "--out", "o", "--json").stdout)["tables"]
    assert asked == [(photographs, 2)]
    cells = {(cell["method"], cell["column"]): cell for cell in table["cells"]}
    assert list(cells) == [(kind, column) for kind in ("cfg", "s-cfg", "goca") for column in ("fid", "clip")]
    fid, clip = cells["goca", "fid"], cells["goca", "clip"]
    assert (fid["reported"], fid["ours"], fid["low"]) == (18.82, 19.5, None)
    assert fid["difference"] == pytest.approx(0.68) and clip["low"] <= clip["ours"] == 30.5 <= clip["high"]
    pictures = sorted(Path("o/generation").rglob("*.png"))
    assert len(pictures) == 6
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.info["seed"] == "42"
    config = json.loads(next(Path("o/generation").rglob("records.jsonl")).read_text().splitlines()[0])["config"]
    assert (config["noise_seed"], config["scales"], config["steps"]) == (42, [5.0], 2)
    assert "19.50" in Path("o/generation.tex").read_text()


class Balance(HTMLParser):
    """Counts the cells of each row, those that span counted as often, and tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += int(dict(attributes).get("colspan", 1))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_formats_of_a_table() -> None:
    cells = (
        Cell("paper", "my_model", "voc", 60.7, 61.25, 60.0, 62.0, 9),
        Cell("none", "<b>", "voc", 44.3),
        Cell("none", "<b>", "a&b", None, 5.0),
        Cell("cfg", "m", "fid", 19.27, 19.5, None, None, 4),
    )
    table = Table("table-1", "IoU in %", cells, missing=("voc: <gone>",), notes=("50% & more",))
    page = to_html([table, table])
    reader = Balance()
    reader.feed(page)
    assert reader.open == [] and reader.rows == [2 + 6, 6, 8, 8, 8] * 2
    assert "&lt;b&gt;" in page and "&lt;gone&gt;" in page and "+0.23" in page and "[60.0, 62.0]" in page
    latex = to_latex(table)
    assert r"my\_model & GoCA & 60.7 & 61.2 {\scriptsize [60.0, 62.0]} &  &  &  &  \\" in latex
    assert r"\multicolumn{2}{c}{a\&b}" in latex and "19.27 & 19.50" in latex
    (line, *_) = csv.DictReader(to_csv(table).splitlines())
    assert line["difference"] == str(61.25 - 60.7) and line["difference_low"] == str(60.0 - 60.7)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_tables(run: Run) -> None:
    words = ["reproduce", "table-1", "ablation", "--models", "scenes-dit,scenes-unet", "--limit", "12", "--out"]
    command = [sys.executable, "-c", "from goca.cli import main; main()", *words, "killed"]
    environment = {**os.environ, "PYTHONPATH": str(Path(goca.__file__).parents[1])}
    records = Path("killed/table-1/scenes-unet-scenes/records.jsonl")
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not (records.exists() and records.read_bytes().count(b"\n") > 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not Path("killed/table-1.csv").exists()
    assert run(*words[1:], "killed").exit_code == 0
    assert run(*words[1:], "whole").exit_code == 0
    for name in (f"{table}.{suffix}" for table in ("table-1", "ablation") for suffix in ("csv", "tex", "html", "json")):
        assert (Path("killed") / name).read_bytes() == (Path("whole") / name).read_bytes()
