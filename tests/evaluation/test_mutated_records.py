"""Records of an evaluation that somebody changed, and inputs that changed under it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import toy
from PIL import Image
from storage.test_mutations import check_mutations
from tiny import parts
from typer.testing import CliRunner, Result

from goca.cli import app
from goca.evaluation.runner import evaluate_indices, read_done
from goca.models.fingerprint import fingerprint
from goca.storage.journal import Journal

Run = Callable[..., Result]


@pytest.mark.parametrize("old", [False, True], ids=["sealed", "of an earlier version"])
def test_a_mutation_of_every_field(tmp_path: Path, old: bool) -> None:
    dataset = toy.Toy(3, broken=(1,))
    task = toy.task(dataset, "vanilla", "standard")
    results = [each.to_json() for each in evaluate_indices(toy.segmenter(), dataset, range(3), task)]
    for entry in results:  # each number many times over tells nothing new
        for counts in entry.get("counts", {}).values():
            counts |= {key: value[:1] for key, value in counts.items()}
    lines = [{"config": {}}, *results]

    def read(path: Path) -> Any:
        return read_done(Journal(path, {}, resume=True), dataset, task, 3)[0].name

    assert check_mutations(tmp_path / "records.jsonl", lines, old, read) > 500


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Evaluates a folder data set with a local model."""
    monkeypatch.chdir(tmp_path)
    assert invoke("scenes", "--count", 3, "--size", 32, "--out", "d").exit_code == 0
    parts.save(tiny.dit.build(), Path("m"))
    words = ("evaluate", "--dataset", "folder", "--root", "d", "--model", "m", "--presets", "vanilla", "--batch", 1)
    return lambda *more: invoke(*words, "--out", "o", *more)


def invoke(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def change_image() -> None:
    pixels = np.asarray(Image.open("d/images/00001.png")).copy()
    pixels[3, 4] += 1
    Image.fromarray(pixels).save("d/images/00001.png")


def change_labels() -> None:
    picture = Image.open("d/labels/00001.png")
    picture.putpixel((0, 0), (picture.getpixel((0, 0)) + 1) % 20)
    picture.save("d/labels/00001.png")


def change_caption() -> None:
    captions = json.loads(Path("d/captions.json").read_text())
    captions["00001.png"]["caption"] = "cat"
    Path("d/captions.json").write_text(json.dumps(captions))


def change_classes() -> None:
    names = Path("d/classes.txt").read_text().splitlines()
    Path("d/classes.txt").write_text("\n".join([names[1], names[0], *names[2:]]) + "\n")


def change_weights() -> None:
    path = next(Path("m/transformer").glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def change_schedule() -> None:
    path = Path("m/scheduler/scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"beta_end": 0.03}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_image,
            "the image, labels or caption of 00001.png (1 of the 3 images that o/records.jsonl holds) changed",
        ),
        (change_labels, "the image, labels or caption of 00001.png"),
        (change_caption, "the image, labels or caption of 00001.png"),
        (change_classes, "classes changed; resume with the same settings, or start anew with --overwrite"),
        (change_weights, "weights transformer changed"),
        (change_schedule, "weights scheduler changed"),
    ],
)
def test_changed_inputs_are_noticed(run: Run, change: Callable[[], None], message: str) -> None:
    assert run().exit_code == 0
    before = {path: path.read_bytes() for path in Path("o").iterdir()}
    change()
    result = run("--resume")
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert {path: path.read_bytes() for path in Path("o").iterdir()} == before
    assert run("--overwrite").exit_code == 0
    assert run("--resume").exit_code == 0


def test_copied_and_touched_files_are_the_same(run: Run) -> None:
    assert run().exit_code == 0
    before = Path("o/results.json").read_bytes()
    for name in ("d", "m"):
        shutil.copytree(name, f"{name}-copy")
        shutil.rmtree(name)
        os.rename(f"{name}-copy", name)
    for path in [*Path("d").rglob("*"), *Path("m").rglob("*")]:
        os.utime(path, (1, 1))
    assert run("--resume").exit_code == 0 and Path("o/results.json").read_bytes() == before


def test_files_of_the_user_are_not_replaced(run: Run) -> None:
    Path("o").mkdir()
    Path("o/results.json").write_text('{"mine": 1}')
    for more in ((), ("--resume",)):
        result = run(*more)
        assert result.exit_code == 2 and "o/results.json exists already; replace it with" in result.stderr
    assert [path.name for path in Path("o").iterdir()] == ["results.json"]
    Path("o/results.json").unlink()
    assert run().exit_code == 0
    Path("o/results.json").write_text('{"mine": 1}')
    assert "o/results.json exists already" in run("--resume").stderr
    Path("t.csv").write_text("mine")

    result = invoke("evaluate", "--dataset", "folder", "--root", "d", "--model", "m", "--csv", "t.csv")
    assert result.exit_code == 2 and "t.csv exists already" in result.stderr
    captions = ("--captions", "d/captions.json", "--csv", "d/captions.json", "--overwrite")
    result = invoke("evaluate", "--dataset", "folder", "--root", "d", "--model", "m", *captions)
    assert result.exit_code == 2 and "d/captions.json is an input of this run" in result.stderr


def test_a_fingerprint_tells_every_component() -> None:
    first, second = tiny.dit.build(), tiny.dit.build()
    assert fingerprint(first) == fingerprint(second)
    assert {"transformer", "text_encoder", "vae", "scheduler", "tokenizer"} <= fingerprint(first).keys()
    next(iter(second.vae.parameters())).data.view(-1)[-1] += 1
    changed = [name for name, each in fingerprint(first).items() if each != fingerprint(second)[name]]
    assert changed == ["vae"]
