"""Journals: what a run depends on in the first line, then one JSON line for each piece of finished work."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from goca.storage.json_reader import parse_json
from goca.storage.settings import flatten

Entry = dict[str, Any]
Config = dict[str, Any]


class Journal:
    """Opens or starts a journal; a context manager, whose lines several threads may append.

    Each call of :meth:`append` reaches the disk before it returns, so that a kill loses at most what was under way.

    Args:
        path: of the file; its folder must exist.
        config: what the entries depend on, JSON values alone.
        resume: continue the file, if there is one.
        migrations: number n turns a configuration of format n + 1 (counted from n = 0) into one of format n + 2. New
            files have the last format; a header without a number has format 1.

    Attributes:
        entries: the lines that were there already, oldest first; each has an ``index``.

    Raises:
        ValueError: there are entries already and ``resume`` is not set; they were made with another configuration or by
            a newer version; or a line before the last is damaged.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        migrations: Sequence[Callable[[Config], Config]] = (),
    ) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._lock = threading.Lock()
        settings: Config = json.loads(json.dumps(config))
        lines, size = _read_lines(path) if path.exists() else ([], 0)
        if lines and not resume:
            raise ValueError(f"{path} holds results already; continue them with --resume or choose another --out")
        if lines:
            _check_config(path, _migrate(path, lines[0], migrations), settings)
            self.entries = lines[1:]
        self._stream = path.open("ab")
        self._stream.truncate(size)
        if not lines:
            number = {"format": len(migrations) + 1} if migrations else {}
            self._write([{**number, "config": settings}])

    def append(self, entries: Sequence[Entry]) -> None:
        """Write some lines and wait until the disk has them."""
        with self._lock:
            self._write(entries)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, entries: Sequence[Entry]) -> None:
        lines = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n" for entry in entries)
        self._stream.write("".join(lines).encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _read_lines(path: Path) -> tuple[list[Entry], int]:
    """The whole lines of a file and how many bytes they take; a last line that a kill cut short is left out."""
    content = path.read_bytes()
    size = content.rfind(b"\n") + 1
    lines: list[Entry] = []
    for number, line in enumerate(content[:size].splitlines(), start=1):
        try:
            entry = parse_json(line, f"line {number}")
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or ("config" if number == 1 else "index") not in entry:
            raise ValueError(f"line {number} of {path} is damaged; start again with another --out")
        lines.append(entry)
    return lines, size


def _migrate(path: Path, header: Entry, migrations: Sequence[Callable[[Config], Config]]) -> Config:
    """The configuration of a header, in the present format."""
    number = header.get("format", 1)
    if number not in range(1, len(migrations) + 2):
        raise ValueError(f"{path} has the format {number} of a newer goca; update goca or choose another --out")
    config: Config = header["config"]
    for migrate in migrations[number - 1 :]:
        config = migrate(config)
    return config


def _check_config(path: Path, before: Config, config: Config) -> None:
    old, new = dict(flatten(before)), dict(flatten(config))
    changed = [
        f"{key} was {_show(old, key)} and is now {_show(new, key)}"
        for key in dict.fromkeys((*old, *new))
        if _show(old, key) != _show(new, key)
    ]
    if changed:
        raise ValueError(
            f"{path} was made with other settings: {'; '.join(changed[:5])}; "
            "resume with the same settings or choose another --out"
        )


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not there"
