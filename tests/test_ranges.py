"""Numbers at the border: every numeric option of every command, and the same numbers from Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from goca import Method, Segmenter
from goca.captioning.job import caption_files
from goca.captioning.server import Server
from goca.captioning.sources import Source, server_source
from goca.cli import app
from goca.datasets.scenes import Scenes
from goca.datasets.write_scenes import write_scenes
from goca.distributed.cluster import Workers
from goca.evaluation.experiment import Experiment
from goca.evaluation.generation.experiment import image_path
from goca.evaluation.protocols import find_protocol
from goca.guidance.generate import Generator
from goca.guidance.table import read_rows
from goca.models import wrap
from goca.ranges import LARGEST_SEED, check_number, check_seed, check_whole

NO_FLOAT = ("nan", "inf", "-inf", "1e999", "-1e300", "1e300")
NO_INT = ("nan", "inf", "1e3", "-9223372036854775809", "18446744073709551616", "1" * 5000)
NO_NUMBERS = [1.5, float("nan"), float("inf"), True, "1", None, np.float32(2.0), b"1", np.bool_(True)]


def numeric_options() -> Iterator[tuple[str, str, str]]:
    """(command, option, number) for each option that takes a number."""
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        for parameter in inspect.signature(command.callback).parameters.values():
            kinds = set(get_args(get_args(parameter.annotation)[0])) or {get_args(parameter.annotation)[0]}
            numbers = NO_INT if int in kinds else NO_FLOAT if float in kinds else ()
            for number in numbers:
                yield name, "--" + parameter.name.replace("_", "-"), number


NUMERIC = list(numeric_options())


def test_every_numeric_option_is_found() -> None:
    found = {(command, option) for command, option, _ in NUMERIC}
    assert {("segment", "--threshold"), ("evaluate", "--batch"), ("caption", "--input-price")} <= found
    assert len(found) > 25


@pytest.mark.parametrize(("command", "option"), sorted({(command, option) for command, option, _ in NUMERIC}))
def test_options_refuse_what_no_number_can_be(
    command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = {"segment": ["a.png", "--classes", "cat"], "bench": ["scenes-dit"], "generate": ["cat"]}.get(command, [])
    for number in (number for *which, number in NUMERIC if which == [command, option]):
        result = CliRunner().invoke(app, [command, *needed, f"{option}={number}"])
        (line,) = result.stderr.splitlines()
        assert result.exit_code == 2 and result.stdout == "" and len(line) < 900
        assert line.startswith("goca: invalid value") and option in line, (number, line)
        assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("scales", ["nan", "2,inf", "-1", "1e300", "2,,x", ","])
def test_scales_are_numbers(scales: str, tmp_path: Path) -> None:
    words = ["guidance-table", "--scales", scales, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "scale" in result.stderr and not (tmp_path / "out").exists()


def test_scales_that_differ_have_folders_of_their_own() -> None:
    assert image_path(Path(), "cfg", 5.0, 0) == Path("images/cfg-5/00000.png")
    assert image_path(Path(), "cfg", 7.5, 0) == Path("images/cfg-7.5/00000.png")
    assert image_path(Path(), "cfg", 5.0000001, 0) != image_path(Path(), "cfg", 5.0000002, 0)


@pytest.mark.parametrize("size", ["0", "-8", "8x0", "9" * 5000, "64x", "\u0664\u0664", "1e3", "nan", "100000000"])
def test_sizes_of_drawn_images(size: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", "cat", f"--size={size}", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "size" in result.stderr and not (tmp_path / "out").exists()


def test_numbers_within_their_ranges_pass() -> None:
    assert check_seed(np.int64(3)) == 3 and check_seed(LARGEST_SEED) == 2**64 - 1
    assert (
        check_whole("n", 0, 0) == 0
        and check_number("x", 1, -1.0, 1.0) == check_number("x", np.float32(1), -1.0, 1.0) == 1.0
    )


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="n is a whole number of at least 0, not "):
        check_whole("n", value, 0)


@pytest.mark.parametrize("value", [2**64, -1, 10**5000], ids=["64 bits", "negative", "long"])
def test_python_callers_get_the_same_sentences(value: int, tmp_path: Path) -> None:
    segmenter = tiny_segmenter()
    image = np.zeros((8, 8, 3), np.uint8)
    source = Source(lambda picture, attempt: pytest.fail("asked"), {})
    calls: list[Callable[[], Any]] = [
        lambda: segmenter(image, ["cat", "sky"], seed=value),
        lambda: Method(timesteps=value),
        lambda: Method(pamr=value),
        lambda: Experiment.open(seed=value),
        lambda: Scenes(limit=value),
        lambda: Scenes(size=value),
        lambda: write_scenes(tmp_path / "out", value),
        lambda: write_scenes(tmp_path / "out", 1, seed=value),
        lambda: write_scenes(tmp_path / "out", 1, size=value),
        lambda: Workers({}, count=value).connect(),
        lambda: server_source("m", "http://127.0.0.1:1/v1", concurrency=value),
        lambda: Server("m", "http://127.0.0.1:1/v1", retries=value),
        lambda: Generator(segmenter, every=value),
        lambda: Generator(segmenter, steps=value),
        lambda: segmenter(image, ["cat", "sky"], batch_size=value),
        lambda: Segmenter(segmenter.model, size=value),
        lambda: Experiment.open(limit=value),
        lambda: caption_files([], source, tmp_path / "out", limit=value),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is a whole number") as refused:
            call()
        assert len(str(refused.value)) < 250
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [1.001, -1.001, float("nan"), float("inf"), 5.0])
def test_thresholds_lie_between_minus_one_and_one(value: float) -> None:
    for call in (lambda: Method(threshold=value), lambda: find_protocol("standard", "voc", value)):
        with pytest.raises(ValueError, match="the threshold is a finite number from -1 to 1, not "):
            call()
    assert Method(threshold=1).threshold == 1 and Method(threshold=-1.0).threshold == -1


def test_seeds_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"prompt,seed\ncat,{2**64 - 1}\ncat,{2**64}\ncat,-1\ncat,{'9' * 5000}\ncat,1.5\ncat,nan\n")
    rows, bad = read_rows(path)
    assert [row.seed for row in rows] == [2**64 - 1]
    assert [line.split(":")[0] for line in bad] == [f"line {number}" for number in range(3, 8)]
    assert all("seed" in line and len(line) < 200 for line in bad)


_segmenters: list[Segmenter] = []


def tiny_segmenter() -> Segmenter:
    if not _segmenters:
        _segmenters.append(Segmenter(wrap("tiny", tiny.unet.build())))
    return _segmenters[0]


def test_the_largest_seed_is_a_seed() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert tiny_segmenter()(image, ["cat", "sky"], seed=LARGEST_SEED).classes == ("cat", "sky")
