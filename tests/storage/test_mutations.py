"""Journals that somebody changed: every field of every line, in every way, is refused or makes no difference."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goca.storage.digest import digest
from goca.storage.journal import CHECK, Journal

CONFIG = {"model": "tiny", "methods": {"paper": {"heads": None}}}
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**12,
    2**63,
    2**64,
    1.5,
    -0.0,
    "",
    "text",
    [],
    [1],
    [[0]],
    {},
    {"a": 1},
)


def mutations(value: Any) -> Iterator[Any]:
    """The value with one part of it changed, removed, repeated or moved; parts of parts too."""
    yield from VALUES
    if isinstance(value, dict):
        for key in value:
            yield {name: each for name, each in value.items() if name != key}
            yield {(f"{name}s" if name == key else name): each for name, each in value.items()}
            for changed in mutations(value[key]):
                yield {**value, key: changed}
        yield {**value, "more": 1}
    elif isinstance(value, list):
        yield from (value + value, value[:-1], value[::-1])
        for place in range(len(value)):
            for changed in mutations(value[place]):
                yield [*value[:place], changed, *value[place + 1 :]]
    elif isinstance(value, str):
        yield from (value[:-1], value + "x", value * 1000)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1, value * 2**32, float(value))


def sealed(entry: Any, old: bool) -> str:
    """A line as a journal has it; old ones have no check, so that their fields alone tell."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    return text + "\n" if old or not isinstance(entry, dict) else f'{text[:-1]},"{CHECK}":"{digest(text.encode())}"}}\n'


def check_mutations(path: Path, lines: list[dict[str, Any]], old: bool, read: Callable[[Path], Any]) -> int:
    """Read the journal with each line changed in every way: what is read is what it was, or one sentence.

    Returns:
        how many of the changed journals were refused.
    """
    path.write_text("".join(sealed(line, old) for line in lines))
    expected, refused = read(path), 0
    for place, line in enumerate(lines):
        for changed in mutations(copy.deepcopy(line)):
            if changed == line and json.dumps(changed) == json.dumps(line):
                continue
            path.write_text("".join(sealed(each, old) for each in [*lines[:place], changed, *lines[place + 1 :]]))
            try:
                found = read(path)
            except ValueError as error:
                assert str(error) and "\n" not in str(error)
                refused += 1
            else:
                assert found == expected, changed
    return refused


def test_every_byte_of_a_journal_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, CONFIG) as file:
        file.append([{"index": 0, "name": "ä", "counts": [1, 2]}, {"index": 1, "name": "b", "counts": []}])
    whole = path.read_bytes()
    entries = Journal(path, CONFIG, resume=True).entries
    for place in range(len(whole) - 1):
        for byte in (whole[place] ^ 1, ord("7"), ord(" ")):
            if byte == whole[place]:
                continue
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                found = Journal(path, CONFIG, resume=True).entries
            except ValueError as error:
                assert "\n" not in str(error)
            else:
                assert found == entries  # a line whose end is gone counts as cut short: only the last one may be
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert Journal(path, CONFIG, resume=True).entries == entries[: max(0, whole[:length].count(b"\n") - 1)]


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for content in (b"my notes, without an end of line", b"\0" * 64, b'{"a": 1}', b"{'config"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged or no journal of goca; move it away"):
            Journal(path, CONFIG, resume=True)
        assert path.read_bytes() == content
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is no regular file"):
        Journal(path, CONFIG, resume=True)


def test_nothing_is_there_before_the_first_line(tmp_path: Path) -> None:
    with Journal(tmp_path / "new/journal.jsonl", CONFIG) as file:
        assert list(tmp_path.iterdir()) == []
        file.append([{"index": 0}])
    assert len((tmp_path / "new/journal.jsonl").read_text().splitlines()) == 2


def test_a_replaced_journal_goes_with_its_results_when_the_new_one_begins(tmp_path: Path) -> None:
    path, results = tmp_path / "journal.jsonl", tmp_path / "results.json"
    path.write_text("mine")
    results.touch()
    with Journal(path, CONFIG, overwrite=True, replaces=[results]) as file:
        assert path.read_text() == "mine" and results.exists() and file.entries == []
        file.append([{"index": 0}])
    assert not results.exists() and Journal(path, CONFIG, resume=True).entries == [{"index": 0}]


def test_digests_are_not_shown_and_what_was_not_recorded_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {"weights": {"vae": digest(b"a"), "unet": digest(b"b")}}) as file:
        file.append([{"index": 0}])
    with pytest.raises(
        ValueError, match=r"other settings: weights vae changed; resume with the same settings, or start"
    ):
        Journal(path, {"weights": {"vae": digest(b"c"), "unet": digest(b"b")}}, resume=True)
    path.write_text('{"config":{"weights":"not recorded","seed":1}}\n{"index":0}\n')
    Journal(path, {"weights": {"vae": digest(b"c")}, "seed": 1}, resume=True)
    with pytest.raises(ValueError, match=r"weightless was not there and is now 1"):
        Journal(path, {"weights": {}, "weightless": 1, "seed": 1}, resume=True)
