"""``goca segment --caption-with``: a model says what is in each image, and that is looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_vlm
from fake_server import chat, refuse, serve
from PIL import Image
from typer.testing import CliRunner, Result

from goca.cli import app

ANSWERS = ("cat, sky", "(person, clothes), grass", "dog")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for index in range(3):
        path = tmp_path / "in" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20), (60 * index, 90, 0)).save(path)
    return tmp_path


def segment(folder: Path, url: str, *more: Any) -> Result:
    asked = ("--caption-with", "openai", "--caption-model", "eye", "--base-url", url)
    words = ("segment", "in", "--model", folder, *asked, "--format", "labels,coco", "--out", "out", "--json", *more)
    return CliRunner().invoke(app, [str(word) for word in words])


def classes(result: Result) -> list[list[str]]:
    return [[each["name"] for each in image["classes"]] for image in json.loads(result.stdout)["results"]]


def files(folder: str = "out") -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def in_turn(number: int) -> tuple[int, Any]:
    return chat(ANSWERS[0])


def test_each_image_is_searched_for_what_its_caption_names(dit_folder: Path) -> None:
    with serve(in_turn) as server:
        result = segment(dit_folder, server.url)
        assert result.exit_code == 0, str(result.exception) + result.output
        assert classes(result) == [["cat", "sky"]] * 3 and len(server.requests) == 3
        captions = json.loads(Path("out/captions.json").read_text())
        assert captions == {f"{index}.png": {"caption": "cat, sky"} for index in range(3)}
        refused = segment(dit_folder, server.url)
        assert refused.exit_code == 2 and "--resume" in refused.stderr and len(server.requests) == 3
        written = files()
        assert segment(dit_folder, server.url, "--resume").exit_code == 0
        assert files() == written and len(server.requests) == 3
        result = segment(dit_folder, server.url, "--overwrite", "--classes", "sky,kitten|cat")
        assert classes(result) == [["sky", "kitten"]] * 3 and len(server.requests) == 6


def test_a_failed_caption_is_listed_and_asked_for_again(dit_folder: Path) -> None:
    failing = {1}
    Path("in/2.png").write_bytes(b"no picture")

    def answer(number: int) -> tuple[int, Any]:
        return refuse(400, "no pictures of this") if number in failing else chat("cat, sky")

    with serve(answer) as server:
        result = segment(dit_folder, server.url)
        assert result.exit_code == 1
        listed = {each["image"]: each["reason"] for each in json.loads(result.stdout)["failures"]}
        assert sorted(Path(image).name for image in listed)[-1] == "2.png" and len(listed) == 2
        reasons = " ".join(listed.values())
        assert "no caption: the server refuses this question" in reasons and "not an image" in reasons
        assert not Path("out/annotations.json").exists() or len(classes(result)) == 1
        failing.clear()
        Image.new("RGB", (30, 20), "green").save("in/2.png")
        result = segment(dit_folder, server.url, "--resume")
        assert result.exit_code == 0, str(result.exception) + result.output
        assert len(classes(result)) == 3 and len(server.requests) == 4


def test_a_hopeless_error_stops_at_once_and_the_answers_are_kept(dit_folder: Path) -> None:
    def turn_away(number: int) -> tuple[int, Any]:
        return chat("cat, sky") if number == 0 else refuse(401, "bad key")

    with serve(turn_away) as server:
        result = segment(dit_folder, server.url)
        assert result.exit_code == 2 and result.stdout == "" and "check the key" in result.stderr
        asked = len(server.requests)
        assert not Path("out/segmentations.jsonl").exists() and not Path("out/captions.json").exists()
        server.behaviour = in_turn
        assert segment(dit_folder, server.url).exit_code == 0
        assert len(server.requests) == asked + 2


def test_answers_of_another_model_are_not_mixed(dit_folder: Path) -> None:
    with serve(in_turn) as server:
        assert segment(dit_folder, server.url).exit_code == 0
        result = segment(dit_folder, server.url, "--resume", "--caption-model", "other")
        assert result.exit_code == 2 and 'model was "eye" and is now "other"' in result.stderr


def test_images_of_one_name_are_told_apart(dit_folder: Path) -> None:
    Path("in/deep").mkdir()
    Image.new("RGB", (30, 20), "red").save("in/deep/0.png")
    with serve(in_turn) as server:
        result = segment(dit_folder, server.url)
    assert result.exit_code == 0, str(result.exception) + result.output
    assert len(classes(result)) == 4 and Path("out/0-2_labels.png").exists()
    assert "in/deep/0.png" in json.loads(Path("out/captions.json").read_text())


def test_a_local_model_is_asked(dit_folder: Path, tmp_path: Path) -> None:
    tiny_vlm.build(tmp_path / "vlm", ("cat,", "sky"))
    words = ("segment", "in/0.png", "--model", dit_folder, "--caption-with", "transformers", "--caption-model", "vlm")
    result = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--out", "out", "--json"])
    assert result.exit_code == 0, str(result.exception) + result.output
    assert classes(result) == [["cat", "sky"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--caption-with", "nobody", "--caption-model", "m"), "openai, transformers"),
        (("--caption-with", "openai"), "with --caption-model"),
        (("--caption-model", "m", "--classes", "cat"), "belongs to --caption-with"),
        (("--caption-with", "openai", "--caption-model", "m", "--caption", "a cat"), "leave out all but one"),
        (("--caption-with", "openai", "--caption-model", "m", "--format", "folder"), "writes captions.json itself"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["segment", "in", *words])
    assert result.exit_code == 2 and message in result.stderr and not Path("goca-out").exists()
