"""The program's face: help by task, what it says alone, its version, choices from the registries, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

import goca
from goca.cli import COMMANDS, app
from goca.cli.options import CHOICES
from goca.cli.program import START, example_of
from goca.export import FORMATS
from goca.guidance.generate import GUIDANCE
from goca.method import PRESETS
from goca.models.specs import MODELS

Run = Callable[..., Result]
NAMES = [command.__name__.replace("_", "-") for commands in COMMANDS.values() for command in commands]


@pytest.fixture
def run() -> Run:
    return lambda *words: CliRunner().invoke(app, list(words), env={"COLUMNS": "100", "TERM": "dumb"})


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_grouped_by_task(run: Run, option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    panels = re.split(r"[-─╭]+ (?=[A-Z])", result.stdout)
    for task, commands in COMMANDS.items():
        (panel,) = [each for each in panels if each.startswith(f"{task} ")]
        for command in commands:
            assert re.search(rf"[│|] {command.__name__.replace('_', '-')} ", panel), command


def test_help_has_an_example_of_each_task(run: Run) -> None:
    examples = [line.strip() for line in run("--help").stdout.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(examples) == len(COMMANDS)
    for example, commands in zip(examples, COMMANDS.values(), strict=True):
        assert example in [example_of(command.__doc__) for command in commands]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(run: Run, name: str) -> None:
    result = run(name, "-h")
    assert result.exit_code == 0 and "Usage" in result.stdout
    assert not set(re.findall(r"\{(\w+)\}", result.stdout)) & CHOICES.keys(), "a registry was not filled in"


def test_alone_it_names_three_commands_that_there_are(run: Run) -> None:
    result = run()
    assert (result.exit_code, result.stdout.strip()) == (0, START.strip())
    started = re.findall(r"^  goca (\S+)", START, re.MULTILINE)
    assert len(started) == 3 and set(started) <= set(NAMES)


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"goca {goca.__version__}\n"


@pytest.mark.parametrize(
    ("command", "registry"),
    [("segment", FORMATS), ("segment", PRESETS), ("generate", GUIDANCE)],
    ids=["formats", "presets", "guidance"],
)
def test_choices_are_those_of_the_registries(run: Run, command: str, registry: dict[str, object]) -> None:
    text = re.sub(r"[\s│|]+", " ", run(command, "--help").stdout)
    for name in registry:
        assert re.search(rf"[ :]{re.escape(name)}[,.: ]", text), name


def completions(*words: str) -> list[str]:
    """What bash gets for the last word."""
    environment = {
        **os.environ,
        "_GOCA_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("goca", *words)),
        "COMP_CWORD": str(len(words)),
    }
    code = "import sys; sys.argv[0] = 'goca'; from goca.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_the_shell_completes_commands_and_names() -> None:
    assert completions("gui") == ["guidance-table"]
    assert completions("segment", "photo.jpg", "--model", "sd3") == [name for name in MODELS if name.startswith("sd3")]
    formats = [f"labels,{name}" for name in FORMATS if name.startswith("coco")]
    assert completions("segment", "photo.jpg", "--format", "labels,coco") == formats
