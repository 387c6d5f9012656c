"""Twenty kills: commands that are continued end where an uninterrupted run ends; no file is ever half there."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import tiny
from PIL import Image
from tiny import parts
from typer.testing import CliRunner

from goca.cli import app
from goca.storage.json_reader import read_json

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")]
KILLS = 5  # of each command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local models, scenes and a table of prompts."""
    monkeypatch.chdir(tmp_path)
    parts.save(tiny.dit.build(), Path("dit"))
    parts.save(tiny.unet.build(), Path("unet"))
    assert run("scenes", "--count", "8", "--size", "32", "--out", "d") == 0
    captions = {f"{index:05d}.png": {"caption": "cat, sky"} for index in range(8)}
    Path("d/captions.json").write_text(json.dumps(captions))
    Path("p.csv").write_text("prompt,seed\n" + "".join(f'"cat, sky",{seed}\n' for seed in range(8)))
    return tmp_path


def run(*words: str) -> int:
    return CliRunner().invoke(app, words).exit_code


def kill(words: tuple[str, ...], delay: float) -> bool:
    """Run a command in a process of its own and kill it after some seconds; whether it had not ended."""
    process = os.fork()
    if not process:
        with open(os.devnull, "w") as nowhere:  # the parent's output is the test's
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(run(*words))
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def tree(folder: str) -> dict[str, bytes]:
    """What every file holds; of a report without its date and its command, which are those of the last run."""
    root = Path(folder)
    files = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    found = {str(path.relative_to(root)): path.read_bytes() for path in files}
    for name in found:
        if name.endswith("report.html"):
            without_date, dates = re.subn(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC\.", b"", found[name])
            found[name], commands = re.subn(rb"<p><code>.*?</code></p>", b"", without_date)
            assert (dates, commands) == (1, 1)
    return found


def check_whole(folder: str) -> None:
    """Every file that has its own name can be read to its end."""
    for path in [Path(folder), *Path(folder).rglob("*")]:
        if not any(part.startswith(".goca-") for part in path.parts):
            if path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".json" and path.exists():
                read_json(path)


COMMANDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {  # words, and what continues them
    "evaluate": (
        "records",
        ("evaluate", "--dataset", "folder", "--root", "d", "--model", "dit", "--presets", "vanilla", "--batch", "1"),
        ("--resume",),
    ),
    "generate": ("set", ("generate", "--csv", "p.csv", "--segment", "--model", "unet", "--steps", "2"), ()),
    "caption": ("c.json", ("caption", "--source", "classes", "--dataset", "scenes", "--limit", "60"), ()),
    "segment": (
        "maps",
        ("segment", *(f"d/images/{index:05d}.png" for index in range(8)), "--classes", "cat,sky", "--model", "dit"),
        ("--overwrite",),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_commands(place: Path, name: str) -> None:
    out, words, go_on = COMMANDS[name]
    began = time.monotonic()
    assert run(*words, "--out", f"whole-{out}") == 0
    lasts = time.monotonic() - began
    rng = random.Random(name)
    killed = 0
    for _ in range(KILLS):
        killed += kill((*words, *go_on, "--out", out), rng.uniform(0.3, 0.9) * lasts)
        check_whole(out)
    assert killed or name == "caption"
    assert run(*words, *go_on, "--out", out) == 0 or name == "caption"
    assert tree(out) == tree(f"whole-{out}")
    assert not list(place.rglob(".goca-*")) and not list(place.glob("*.partial.jsonl"))
