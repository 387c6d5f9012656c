"""The file of records: a header with the configuration, then one JSON line per image, written batch by batch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class RecordFile:
    """Opens or starts a record file; a context manager.

    A batch reaches the disk before the next one starts, so that a kill loses one batch at most.

    Args:
        path: of the file; its folder must exist.
        config: what the records depend on, JSON values alone.
        resume: continue the file, if there is one.

    Attributes:
        entries: the lines that were there already; where an image has two, the later one counts.

    Raises:
        ValueError: there are records already and ``resume`` is not set; they were made with another configuration; or
            a line before the last is damaged.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = path
        self.entries: list[Entry] = []
        config = json.loads(json.dumps(config))
        lines, size = _read_lines(path) if path.exists() else ([], 0)
        if lines and not resume:
            raise ValueError(f"{path} holds records already; continue them with --resume or choose another --out")
        if lines:
            _check_config(path, lines[0], config)
            self.entries = lines[1:]
        self._stream = path.open("ab")
        self._stream.truncate(size)
        if not lines:
            self._write([{"config": config}])

    def append(self, entries: Sequence[Entry]) -> None:
        """Write a batch of lines and wait until the disk has them."""
        self._write(entries)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> RecordFile:
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
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or ("config" if number == 1 else "index") not in entry:
            raise ValueError(f"line {number} of {path} is damaged; start again with another --out")
        lines.append(entry)
    return lines, size


def _check_config(path: Path, header: Entry, config: Mapping[str, Any]) -> None:
    old, new = dict(_flatten(header["config"])), dict(_flatten(config))
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


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not there"
