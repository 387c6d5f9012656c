"""Exit code 2 leaves nothing: one table over all commands, each refusal one sentence and no file more than before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from goca.cli import app
from goca.datasets.write_scenes import write_scenes

SEGMENT = "segment photo.png --classes sky,grass --out new"
EVALUATE = "evaluate --limit 1 --out new"
REFUSED = f"""
segment photo.png --classes sky,grass --out new --model nonsense
segment photo.png --out new
segment missing.png --classes sky --out new
segment empty --classes sky --out new
{SEGMENT} --preset nonsense
{SEGMENT} --format nonsense
{SEGMENT} --heads nonsense
{SEGMENT} --layers nonsense
{SEGMENT} --layer-set nonsense
{SEGMENT} --timestep 5000
{SEGMENT} --threshold nan
{SEGMENT} --seed 18446744073709551616
{SEGMENT} --set nonsense=1
{SEGMENT} --size 3
{SEGMENT} --ignore-below 7
{SEGMENT} --caption nothing
segment photo.png --classes sky, --out photo.png
segment photo.png --classes-file broken.json --out new
segment photo.png --captions broken.json --out new
observe photo.png --classes sky,grass --at 900,900 --out new
observe photo.png --classes sky,grass --layer nonsense --out new
observe photo.png --classes sky,grass --head 99 --out new
observe photo.png --classes , --out new
{EVALUATE} --dataset nonsense
{EVALUATE} --dataset voc --root missing
{EVALUATE} --dataset folder --root empty
{EVALUATE} --presets nonsense
{EVALUATE} --protocol nonsense
{EVALUATE} --captions broken.json
{EVALUATE} --model nonsense
{EVALUATE} --seed -1
ablate --limit 1 --out new --dataset nonsense
ablate --limit 1 --out new --model nonsense
ablate --limit 1 --out new --captions broken.json
reproduce nonsense --root empty --out new
reproduce table-1 --root missing --out new
reproduce --root empty --out new --datasets nonsense
reproduce --root empty --out new --models nonsense
caption photo.png --source nonsense --out new.json
caption photo.png --source openai --model m --base-url ftp://host --out new.json
caption missing.png --source openai --model m --base-url http://127.0.0.1:9/v1 --out new.json
caption photo.png --source openai --model m --base-url http://127.0.0.1:9/v1 --timeout nan --out new.json
caption --source classes --dataset nonsense --out new.json
generate sky,grass --out new --steps 0
generate sky,grass --out new --scale nan
generate sky,grass --out new --guidance nonsense
generate sky,grass --out new --model nonsense
generate --csv broken.json --out new
generate --out new
generate sky,grass --csv prompts.csv --out new
guidance-table --out new --scales nan
guidance-table --out new --guidance nonsense
guidance-table --out new --model nonsense
guidance-table --out new --photos missing
scenes --count 0 --out new
scenes --count 1 --seed -1 --out new
scenes --count 1 --size 3 --out new
scenes --count 1 --out scenes
verify missing.npz
verify empty
bench nonsense
bench scenes-dit --size 3
serve --model nonsense
serve --port 99999
models --nonsense
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)).save("photo.png")
    Path("empty").mkdir()
    Path("broken.json").write_text('{"photo.png": ', encoding="utf-8")
    Path("prompts.csv").write_text("image_id,text\n1,sky\n", encoding="utf-8")
    write_scenes(tmp_path / "scenes", 1)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest, and every folder, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("line", [line for line in REFUSED.splitlines() if line])
def test_a_refused_command_leaves_nothing(line: str, folder: Path) -> None:
    before = contents(folder)
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert contents(folder) == before
    said = [each for each in result.stderr.splitlines() if each.startswith("goca: ")]
    assert len(said) == 1 and "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["segment photo.png --classes sky,grass", "evaluate --limit 1", "scenes --count 1"])
def test_refusals_are_no_json_either(command: str, folder: Path) -> None:
    before = contents(folder)
    result = CliRunner().invoke(app, [*command.split(), "--out", "photo.png", "--json"])
    assert result.exit_code == 2 and contents(folder) == before
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.stdout)
