"""Journals: what a kill leaves behind, what a resumed run refuses, and files of earlier formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goca.storage.journal import Journal

CONFIG = {"model": "tiny", "seed": 5, "methods": {"paper": {"heads": None}}, "thresholds": (0.0, 0.1)}
ENTRIES = [{"index": 0, "name": "ä.png"}, {"index": 1, "name": "b.png"}]


def written(path: Path) -> Path:
    with Journal(path, CONFIG) as file:
        file.append(ENTRIES)
    return path


def test_a_resumed_file_has_the_entries_and_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    with Journal(path, CONFIG, resume=True) as file:
        assert file.entries == ENTRIES
        file.append([{"index": 2, "name": "c.png"}])
    with Journal(path, CONFIG, resume=True) as file:
        assert [entry["index"] for entry in file.entries] == [0, 1, 2]


@pytest.mark.parametrize("lost", [1, 5, 20])
def test_a_half_written_last_line_is_left_out(tmp_path: Path, lost: int) -> None:
    path = written(tmp_path / "journal.jsonl")
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal(path, CONFIG, resume=True) as file:
        assert file.entries == ENTRIES[:1]
        file.append(ENTRIES[1:])
    with Journal(path, CONFIG, resume=True) as file:
        assert file.entries == ENTRIES


def test_a_half_written_header_is_a_new_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"config":{"mod')
    with Journal(path, CONFIG) as file:
        file.append(ENTRIES)
    with Journal(path, CONFIG, resume=True) as file:
        assert file.entries == ENTRIES


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    before = path.read_bytes()
    changed = {**CONFIG, "seed": 6, "methods": {"paper": {"heads": "average"}}, "size": 64}
    message = (
        r"made with other settings: seed was 5 and is now 6; methods paper heads was null and is now \"average\"; "
        "size was not there and is now 64; resume with the same settings, or start anew with --overwrite"
    )
    with pytest.raises(ValueError, match=message):
        Journal(path, changed, resume=True)
    assert path.read_bytes() == before


def test_results_are_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="holds results already; continue them with --resume"):
        Journal(path, CONFIG)


def shout(config: dict[str, Any]) -> dict[str, Any]:
    """The step from format 1 to 2: the model's name is written in capitals."""
    return {**config, "model": config["model"].upper()}


def test_earlier_formats_are_brought_up_to_date(tmp_path: Path) -> None:
    path, now = written(tmp_path / "journal.jsonl"), shout(CONFIG)
    before = path.read_bytes()
    with Journal(path, now, resume=True, migrations=[shout]) as file:
        assert file.entries == ENTRIES
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r'model was "TINY" and is now "tiny"'):
        Journal(path, CONFIG, resume=True, migrations=[shout])


def test_new_files_have_the_last_format(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, CONFIG, migrations=[shout]) as file:
        file.append(ENTRIES)
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0])["format"] == 2
    with Journal(path, CONFIG, resume=True, migrations=[shout]) as file:
        assert file.entries == ENTRIES
    with pytest.raises(ValueError, match="has the format 2 of a newer goca; update goca"):
        Journal(path, CONFIG, resume=True)


@pytest.mark.parametrize("line", ["{", "[]", "{}", "\0\0\0"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "journal.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], line, lines[2], ""]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .* is damaged; start anew with --overwrite or another --out"):
        Journal(path, CONFIG, resume=True)
