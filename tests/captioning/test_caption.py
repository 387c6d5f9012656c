"""``goca caption`` with servers that are slow, refuse or talk nonsense, a tiny local model, a data set's truth."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vlm
from fake_server import chat, refuse, serve
from PIL import Image
from storage.test_mutations import check_mutations
from typer.testing import CliRunner, Result

import goca.datasets
from goca.captioning.answers import Answer, Answers
from goca.captioning.job import caption_all
from goca.captioning.request import Reply, SourceError
from goca.captioning.server import Server
from goca.cli import app
from goca.datasets.base import Dataset, Sample

KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for index in range(4):
        Image.new("RGB", (2000, 20), (60 * index, 0, 0)).save(tmp_path / f"{index}.png")
    return tmp_path


def caption(*words: Any) -> Result:
    result = CliRunner().invoke(app, ["caption", *map(str, words)])
    written = "".join(path.read_text("latin-1") for path in Path.cwd().glob("*.json*"))
    assert KEY not in result.output + result.stderr + written
    return result


def ask(server: Any, *images: str, extra: tuple[Any, ...] = ()) -> Result:
    return caption(*images, "--base-url", server.url, "--model", "eye", "--out", "c.json", "--json", *extra)


def captions() -> dict[str, str]:
    return {name: entry["caption"] for name, entry in json.loads(Path("c.json").read_text()).items()}


def refusal(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("goca: ")]
    return line


def redness(request: dict[str, Any]) -> int:
    """Which of the images a request shows."""
    text, picture = request["messages"][0]["content"]
    assert "nouns" in text["text"]
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(data))
    assert image.size == (1024, 10)
    return round(image.getpixel((5, 5))[0] / 60)


def test_images_are_captioned_with_tokens_and_cost() -> None:
    with serve(lambda number: chat("(Cat, ear), grass.")) as server:
        result = ask(server, "1.png", "0.png", extra=("--input-price", 2, "--output-price", 10))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "file": "c.json",
        "captions": 2,
        "resumed": 0,
        "failures": {},
        "usage": {"prompt_tokens": 200, "completion_tokens": 20},
        "cost": pytest.approx(0.0006),
    }
    assert list(captions().items()) == [("1.png", "(cat, ear), grass"), ("0.png", "(cat, ear), grass")]
    assert sorted(redness(request) for request in server.requests) == [0, 1]
    assert {request["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert {(request["model"], request["path"]) for request in server.requests} == {("eye", "/v1/chat/completions")}
    assert not list(Path.cwd().glob("*.partial.jsonl"))


def test_the_published_question_is_asked_about_a_data_set() -> None:
    words = ("--dataset", "scenes", "--limit", "1", "--question", "published")
    with serve(lambda number: chat("cat, grass")) as server:
        assert ask(server, extra=words).exit_code == 0
        (request,) = server.requests
        assert "at most 20 words" in request["messages"][0]["content"][0]["text"]
        assert "name it with --dataset" in refusal(ask(server, "0.png", extra=("--question", "published")))
    assert len(server.requests) == 1


def test_a_local_server_needs_no_key_and_unknown_prices_give_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve(lambda number: chat("cat")) as server:
        assert json.loads(ask(server, "0.png").stdout)["cost"] is None
    Path("c.json").unlink()
    assert "set the environment variable OPENAI_API_KEY" in refusal(caption("0.png", "--model", "eye"))


def test_questions_run_together_but_not_more_than_asked_for() -> None:
    def slow(number: int) -> tuple[int, Any]:
        time.sleep(0.15)
        return chat("cat")

    with serve(slow) as server:
        assert ask(server, *(f"{i}.png" for i in range(4)), extra=("--concurrency", 2)).exit_code == 0
    assert server.busiest == 2


def test_overload_and_server_errors_are_tried_again() -> None:
    with serve(lambda number: [refuse(429), refuse(500), refuse(503), chat("cat")][number]) as server:
        assert ask(server, "0.png").exit_code == 0
    assert len(server.requests) == 4 and captions() == {"0.png": "cat"}


def test_nonsense_is_asked_again_and_then_listed(place: Path) -> None:
    nonsense = [
        chat("I see a cat that sits on grass"),
        chat("cat, dog", finish="length"),
        (200, "<html>hello</html>"),
        chat(None),
        (200, {"choices": []}),
        (200, {"choices": 3}),
    ]
    for answer in nonsense:
        with serve(lambda number, answer=answer: chat("cat") if number == 2 else answer) as server:
            assert ask(server, "0.png").exit_code == 0
        assert len(server.requests) == 3
        Path("c.json").unlink()

    with serve(lambda number: chat(f"Your key is {KEY} and nothing else today")) as server:
        result = ask(server, "0.png")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1 and answer["usage"] == {"prompt_tokens": 300, "completion_tokens": 30}
    assert "which is not a noun (asked 3 times)" in answer["failures"]["0.png"]
    assert "no caption for 0.png: the answer holds" in result.stderr
    assert captions() == {}


def test_failures_are_listed_and_asked_about_again_next_time() -> None:
    def shy(number: int) -> tuple[int, Any]:
        return refuse(400, f"no pictures of this, {KEY}") if redness(server.requests[number]) == 1 else chat("cat")

    Path("3.png").write_bytes(b"no picture")
    with serve(shy) as server:
        result = ask(server, "0.png", "1.png", "2.png", "3.png")
        assert result.exit_code == 1
        assert captions() == {"0.png": "cat", "2.png": "cat"}
        failures = json.loads(result.stdout)["failures"]
        assert list(failures) == ["1.png", "3.png"]
        assert "the server refuses this question" in failures["1.png"] and "no pictures of this" in failures["1.png"]
        assert "not an image" in failures["3.png"]

        Image.new("RGB", (2000, 20), (180, 0, 0)).save("3.png")
        server.behaviour = lambda number: chat("dog")
        server.requests.clear()
        result = ask(server, "0.png", "1.png", "2.png", "3.png")
    assert result.exit_code == 0 and json.loads(result.stdout)["resumed"] == 2
    assert sorted(redness(request) for request in server.requests) == [1, 3]
    assert list(captions().items()) == [("0.png", "cat"), ("1.png", "dog"), ("2.png", "cat"), ("3.png", "dog")]
    assert not Path("c.json.partial.jsonl").exists()


def test_a_server_that_refuses_everything_stops_the_run_and_keeps_what_is_there() -> None:
    def turn_away(number: int) -> tuple[int, Any]:
        return chat("cat") if number == 0 else refuse(401, f"bad key {KEY}")

    with serve(turn_away) as server:
        sentence = refusal(ask(server, *(f"{i}.png" for i in range(4)), extra=("--concurrency", 1)))
    assert "check the key, the address and the model" in sentence and "bad key ..." in sentence
    assert len(server.requests) == 2
    assert not Path("c.json").exists()
    settings, entry = map(json.loads, Path("c.json.partial.jsonl").read_text().splitlines())
    assert settings["config"]["server"] == server.url and entry["caption"] == "cat"

    with serve(lambda number: refuse(429, "pay first", "insufficient_quota")) as server:
        out = ("--out", "d.json")
        assert "no quota left" in refusal(ask(server, "0.png", extra=out))


def test_a_server_that_is_not_there() -> None:
    with serve(lambda number: chat("cat")) as server:
        pass
    source = Server("eye", server.url, retries=0)
    with pytest.raises(SourceError, match=r"cannot reach http://127.0.0.1:\d+/v1/; check the address"):
        source(Image.new("RGB", (4, 4)), 0)


def test_a_slow_server_is_a_failure_of_that_image() -> None:
    def slow(number: int) -> tuple[int, Any]:
        time.sleep(0.5)
        return chat("cat")

    with serve(slow) as server:
        source = Server("eye", server.url, timeout=0.1, retries=0)
        with pytest.raises(ValueError, match=r"did not answer within 0.1 seconds"):
            source(Image.new("RGB", (4, 4)), 0)
        source = Server("eye", server.url, retries=0)
        server.behaviour = lambda number: refuse(429)
        with pytest.raises(ValueError, match=r"stays overloaded; ask for fewer at a time"):
            source(Image.new("RGB", (4, 4)), 0)


def test_a_killed_run_goes_on_where_it_stopped() -> None:
    asked: list[str] = []

    def describe(name: str, attempt: int) -> Reply:
        asked.append(name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return Reply("cat", 5, 1)

    subjects: dict[str, Callable[[], str]] = {name: (lambda name=name: name) for name in "abcd"}
    out, partial = Path("c.json"), Path("c.json.partial.jsonl")
    with pytest.raises(KeyboardInterrupt):
        caption_all(subjects, describe, out, {"model": "m"})
    assert asked == ["a", "b", "c"] and not out.exists()
    with partial.open("ab") as file:
        file.write(b'{"name": "c", "capti')  # cut by the kill
    summary = caption_all(subjects, describe, out, {"model": "m"})
    assert asked == ["a", "b", "c", "c", "d"]
    assert summary.resumed == 2 and summary.prompt_tokens == 20
    assert list(captions()) == list("abcd") and not partial.exists()


def test_a_partial_file_of_other_settings_or_damaged_is_refused() -> None:
    with serve(lambda number: chat("cat") if number == 0 else refuse(403)) as server:
        refusal(ask(server, "0.png", "1.png", extra=("--concurrency", 1)))
        before = Path("c.json.partial.jsonl").read_bytes()
        sentence = refusal(ask(server, "0.png", extra=("--model", "other")))
        assert 'c.json.partial.jsonl was made with other settings: model was "eye" and is now "other"' in sentence
        assert Path("c.json.partial.jsonl").read_bytes() == before
        Path("c.json.partial.jsonl").write_bytes(before + b"{}\n")
        assert "line 3 of c.json.partial.jsonl is damaged" in refusal(ask(server, "0.png"))
        Path("c.json.partial.jsonl").write_bytes(before + before.splitlines()[1] + b"\n")
        assert "line 3 of c.json.partial.jsonl is damaged (0.png had its caption" in refusal(ask(server, "0.png"))
        Path("c.json.partial.jsonl").write_bytes(before)
        whole = Path("0.png").read_bytes()
        Image.new("RGB", (20, 20)).save("0.png")
        assert "0.png changed since c.json.partial.jsonl was begun; put it back" in refusal(ask(server, "0.png"))
        Path("0.png").write_bytes(whole)
        Path("c.json").write_text('{"mine.png": {"caption": "dog"}}')
        assert "c.json exists already; replace it with --overwrite" in refusal(ask(server, "0.png"))
        Path("c.json.partial.jsonl").unlink()
        assert "c.json exists already; replace it with --overwrite" in refusal(ask(server, "0.png"))
        assert "mine" in Path("c.json").read_text()
        server.behaviour = lambda number: chat("cat")
        assert "is an input of this run" in refusal(ask(server, "0.png", extra=("--out", "0.png", "--overwrite")))
        assert ask(server, "0.png", extra=("--overwrite",)).exit_code == 0 and captions() == {"0.png": "cat"}


def test_a_mutation_of_every_field_of_the_answers(tmp_path: Path) -> None:
    answers = [Answer(0, "a", "cat, dog", None, 5, 1, "sha256:0"), Answer(1, "b", None, "no answer", 3, 2)]
    lines = [{"config": {"model": "m"}}, *map(asdict, answers)]

    def read(path: Path) -> list[bool]:
        with Answers(path, {"model": "m"}) as found:
            return [each.caption is None for each in found.all]

    assert check_mutations(tmp_path / "c.partial.jsonl", lines, True, read) > 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give image files or a data set with --dataset, one of the two"),
        (("0.png", "--dataset", "scenes"), "give image files or a data set with --dataset, one of the two"),
        (("none.png", "--model", "m"), "no such image file: none.png"),
        (("0.png", "new/0.png", "--model", "m"), "two images are called 0.png"),
        (("0.png",), "name the model that --source openai asks with --model"),
        (("0.png", "--source", "oracle"), "unknown source 'oracle'; choose one of classes, openai, transformers"),
        (("0.png", "--source", "classes"), "name it with --dataset"),
        (("0.png", "--model", "m", "--base-url", "localhost:80"), "is no address of a server"),
        (("0.png", "--model", "m", "--base-url", f"http://u:{KEY}@h/v1"), "does not belong into the address"),
        (("0.png", "--source", "transformers", "--model", "./no"), "cannot be loaded as a vision-language model"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(words: tuple[str, ...], message: str) -> None:
    Path("new").mkdir()
    Image.new("RGB", (4, 4)).save("new/0.png")
    before = sorted(Path.cwd().iterdir())
    assert message in refusal(caption(*words))
    assert sorted(Path.cwd().iterdir()) == before


def test_a_local_model_answers(place: Path) -> None:
    folder = tiny_vlm.build(place / "vlm", ("cat,", "grass"))
    words = ("0.png", "--source", "transformers", "--model", folder, "--device", "cpu", "--out", "c.json")
    result = caption(*words, "--json")
    assert result.exit_code == 0, result.output
    assert captions() == {"0.png": "cat, grass"} and json.loads(result.stdout)["cost"] == 0
    tiny_vlm.build(folder, ("it", "is", "a", "cat", "on", "grass"))
    result = caption("0.png", *words[1:-1], "d.json")
    assert result.exit_code == 1 and "(asked 3 times)" in result.stderr


class Two(Dataset):
    """Two samples: one of dog and void, one of background alone."""

    key = "two"
    classes = ((), ("cat",), ("dog", "hound"))
    names = ("x.jpg", "y.jpg")

    def __getitem__(self, index: int) -> Sample:
        labels = np.array([[[0, 2, 255]], [[0, 0, 0]]], dtype=np.uint8)[index]
        return Sample(self.names[index], Image.new("RGB", (3, 1), (60 * index, 0, 0)).resize((2000, 20)), labels)


def test_data_sets_by_their_truth_and_by_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_two(key: str, *, root: Path | None, split: str | None) -> Two:
        opened.append((key, root, split))
        return Two()

    monkeypatch.setattr(goca.datasets, "open_dataset", open_two, raising=False)
    result = caption("--dataset", "two", "--root", "r", "--split", "val", "--source", "classes", "--out", "c.json")
    assert result.exit_code == 0, result.output
    assert result.stdout == "2 captions in c.json, 0 failures\n"
    assert opened == [("two", Path("r"), "val")]
    assert captions() == {"x.jpg": "dog", "y.jpg": "background"}
    Path("c.json").unlink()
    with serve(lambda number: chat("hound")) as server:
        assert ask(server, extra=("--dataset", "two", "--limit", 1)).exit_code == 0
    assert captions() == {"x.jpg": "hound"} and redness(server.requests[0]) == 0


def test_without_the_openai_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "pip install 'goca[caption]'" in refusal(caption("0.png", "--model", "m"))
