"""What files, servers and users wrote, as it reaches a terminal, a page and a picture."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from rich.table import Table
from typer.testing import CliRunner

import goca.cli
from goca import Segmenter, render
from goca.cli import app
from goca.cli.common import print_table, take_any_character
from goca.lookup import look_up
from goca.messages import LONGEST_SENTENCE, one_line, sentence, shorten, visible
from goca.models import wrap
from goca.storage.names import file_stems

HOSTILE = "a\x1b]0;title\x07\x1b[31m\r\u202eb\u2028c\x9b\udcff"
SEEN = r"a\x1b]0;title\x07\x1b[31m\r\u202eb\u2028c\x9b\udcff"


@pytest.mark.parametrize(
    "text", ["plain", "Bäume", "猫", "क\u094d\u200dष", "\N{MAN}\u200d\N{PERSONAL COMPUTER}", "[red]"]
)
def test_words_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


def test_control_characters_are_escaped() -> None:
    assert visible(HOSTILE) == SEEN
    assert visible("\n\t\x00\ufeff\u200b\u2066") == r"\n\t\x00\ufeff\u200b\u2066"


def test_length_is_limited_and_the_end_stays() -> None:
    assert shorten("x" * 80) == "x" * 80
    text = shorten("x" * 1000 + "; choose another")
    assert len(text) == 80 and text.endswith("; choose another")
    for hostile in ("x", "\x00", "x "):
        assert len(one_line(hostile * 100_000)) <= LONGEST_SENTENCE


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("first\n  second"), "first second"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such file or directory"),
        (FileNotFoundError(2, "No such file", HOSTILE), f"{SEEN}: No such file"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_one_line(error: Exception, message: str) -> None:
    assert sentence(error) == message


def test_a_long_wrong_name_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="unknown preset 'xxx") as refused:
        look_up(("paper", "plus"), "x" * 100_000, "preset")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "words",
    [
        ("segment",),
        ("segment", "a.png"),
        ("segment", "a.png", "--classes"),
        ("segment", "a.png", "--classes", "cat", "--seed", "none"),
        ("segment", "a.png", "--classes", "cat", "--nonsense"),
        ("segment", HOSTILE.replace("\udcff", ""), "--classes", "cat"),
        ("segment", "x" * 100_000, "--classes", "cat"),
        ("scenes", "--count", "9" * 5000),
        ("scenes", "--count", "x" * 100_000),
        ("scenes", "--count", "1", "surplus"),
        ("nonsense\x1b[31m",),
        ("--plugin", "nonsense\x1b[31m", "models"),
        ("--plugin", "x" * 100_000, "models"),
        ("evaluate", "--dataset", "x" * 100_000),
        ("evaluate", "--presets", "\x1b[31m"),
        ("generate", "cat", "--size", "\x1b[31m"),
        ("generate", "cat", "--size", "x" * 100_000),
        ("guidance-table", "--scales", "x" * 100_000),
        ("caption", "a.png", "--model", "m", "--base-url", "http://\x1b[31m"),
        ("verify", "\x1b[31m"),
    ],
)
def test_refusals_are_one_line(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    assert not any(tmp_path.iterdir())
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("goca: ") and len(line) < 900
    assert line.isprintable()


def test_tables_take_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("[bold]head[/bold]", title="[/tmp]/:cat:\x1b[2J"))
    shown = capsys.readouterr().out
    assert "[bold]head[/bold]" in shown and r"[/tmp]/:cat:\x1b[2J" in "".join(shown.split())


def test_commands_print_with_the_shared_helpers_alone() -> None:
    """Which make control characters visible."""
    for path in Path(goca.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert path.name == "common.py" or name not in ("print", "typer.echo", "typer.secho", "Console"), path.name


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932"])
def test_output_in_any_code_page(encoding: str, tmp_path: Path) -> None:
    image = tmp_path / "\u732b\u2603.png"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "goca", "segment", str(image), "--classes", "road,\u8eca"]
    refused = subprocess.run(command, capture_output=True, env=environment)
    assert refused.returncode == 2 and refused.stdout == b""
    assert len(refused.stderr.splitlines()) == 1 and b"no such image file" in refused.stderr


def test_any_code_page_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="cp1252"))
    take_any_character()
    print("\u732b", flush=True)
    assert file.getvalue().strip() == rb"\u732b"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    from goca.cli.common import print_json

    print_json({"name": HOSTILE + "猫"})
    shown = capsys.readouterr().out
    assert shown.isascii() and json.loads(shown) == {"name": HOSTILE + "猫"}


def test_pictures_have_legends_of_one_line() -> None:
    labels = np.zeros((8, 8), dtype=np.uint8)
    picture = render.overlay(Image.new("RGB", (8, 8)), labels, ["a\nb\x1b\udcff"], 0.5)
    assert picture.size == render.overlay(Image.new("RGB", (8, 8)), labels, ["ab"], 0.5).size


@pytest.mark.parametrize(
    "names",
    [
        [f"thing{number}" for number in range(10_000)],
        ["cat"] * 10_000,
        [f"cat{number}" for number in range(5000)] * 2,
        ["x" * 100_000, "cat"],
        ["|".join(f"cat{number}" for number in range(10_000)), "sky"],
        ["." * 100_000],
        ["cat|" * 10_000],
    ],
    ids=["many", "the same", "twice", "long", "synonyms", "punctuation", "blank"],
)
@pytest.mark.parametrize("model", ["tiny", "scenes-dit"])
def test_ten_thousand_classes_are_refused_soon_and_briefly(
    names: list[str], model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    segmenter = segmenter_of(model)
    capfd.readouterr()
    started = time.process_time()
    with pytest.raises(ValueError) as refused:
        segmenter.prompt(names)
    assert time.process_time() - started < 10
    assert len(str(refused.value)) < 900 and not capfd.readouterr().err


@lru_cache
def segmenter_of(model: str) -> Segmenter:
    return Segmenter(wrap("tiny", tiny.unet.build())) if model == "tiny" else Segmenter.from_pretrained(model)


def test_results_of_files_whose_names_are_no_text_have_names_that_are() -> None:
    assert file_stems(["a\x1b[31m\udcff.png", "b/a\n[31m\udcfe.png", "猫.png"]) == ["a_[31m_", "a_[31m_-2", "猫"]
