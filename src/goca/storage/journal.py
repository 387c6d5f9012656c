"""Journals: what a run depends on in the first line, then one JSON line for each piece of finished work.

Every line ends with the field ``check``, a digest of the others, so that a line that was changed or damaged is noticed
whatever it says. Journals of earlier versions have none; their lines are checked field by field alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from goca.storage.digest import digest, is_digest
from goca.storage.json_reader import parse_json
from goca.storage.outputs import REPLACE
from goca.storage.settings import flatten

Entry = dict[str, Any]
Config = dict[str, Any]
Parsed = TypeVar("Parsed")

CHECK = "check"
UNKNOWN = "not recorded"  # a setting that an earlier format lacks
ANEW = "start anew with --overwrite or another --out"
STARTS = (b'{"config":', b'{"format":')


class Journal:
    """Opens or starts a journal; a context manager, whose lines several threads may append.

    The file is made with the first line: a run that is refused before leaves none. Each call of :meth:`append` reaches
    the disk before it returns, so that a kill loses at most what was under way.

    Args:
        path: of the file.
        config: what the entries depend on, JSON values alone.
        resume: continue the file, if there is one.
        overwrite: replace the file, if there is one.
        replaces: files that go with the file that is replaced, such as the results made of it.
        migrations: number n turns a configuration of format n + 1 (counted from n = 0) into one of format n + 2. New
            files have the last format; a header without a number has format 1. A setting that becomes :data:`UNKNOWN`
            is not compared.

    Attributes:
        entries: the lines that were there already, oldest first; each has an ``index``.
        continued: whether the file was there and is continued, with or without entries.

    Raises:
        ValueError: there are entries already and neither ``resume`` nor ``overwrite`` is set; they were made with
            another configuration or by a newer version; a line before the last is damaged; or the file is no journal.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        replaces: Sequence[Path] = (),
        migrations: Sequence[Callable[[Config], Config]] = (),
    ) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._replaced = (path, *replaces) if overwrite else ()
        settings: Config = json.loads(json.dumps(config))
        lines, self._size = _read_lines(path) if os.path.lexists(path) and not overwrite else ([], 0)
        if lines and not resume:
            raise ValueError(f"{path} holds results already; continue them with --resume, or {REPLACE}")
        number = {"format": len(migrations) + 1} if migrations else {}
        self.continued = bool(lines)
        self._header: list[Entry] = [] if lines else [{**number, "config": settings}]
        if lines:
            _check_config(path, _migrate(path, lines[0], migrations), settings)
            self.entries = lines[1:]

    def read(self, parse: Callable[[Entry], Parsed]) -> list[Parsed]:
        """What the entries say.

        Args:
            parse: reads an entry, or raises ``ValueError``, ``KeyError`` or ``TypeError``.

        Raises:
            ValueError: an entry that ``parse`` refuses; the message names the line.
        """
        found = []
        for line, entry in enumerate(self.entries, start=2):
            try:
                found.append(parse(entry))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"line {line} of {self.path} is damaged ({error}); {ANEW}") from None
        return found

    def append(self, entries: Sequence[Entry]) -> None:
        """Write some lines and wait until the disk has them.

        Raises:
            OSError: the folder or the file cannot be written to.
        """
        with self._lock:
            stream = self._open()
            stream.write("".join(map(_write_line, [*self._header, *entries])).encode())
            stream.flush()
            os.fsync(stream.fileno())
            self._header = []

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> BinaryIO:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for path in self._replaced:
                path.unlink(missing_ok=True)
            self._stream = self.path.open("ab")
            self._stream.truncate(self._size)
        return self._stream


def _write_line(entry: Entry) -> str:
    text = _dump(entry)
    return f'{text[:-1]},"{CHECK}":"{digest(text.encode())}"}}\n'


def _dump(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def _read_lines(path: Path) -> tuple[list[Entry], int]:
    """The whole lines of a file and how many bytes they take; a last line that a kill cut short is left out."""
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; choose another --out")
    content = path.read_bytes()
    size = content.rfind(b"\n") + 1
    if content and not any(content.startswith(start) or start.startswith(content) for start in STARTS):
        raise ValueError(f"{path} is damaged or no journal of goca; move it away, or {ANEW}")
    lines: list[Entry] = []
    checked = False
    for number, line in enumerate(content[:size].splitlines(), start=1):
        try:
            entry = parse_json(line, f"line {number}")
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or ("config" if number == 1 else "index") not in entry:
            raise ValueError(f"line {number} of {path} is damaged; {ANEW}")
        found = entry.pop(CHECK, None)
        checked |= number == 1 and found is not None
        if (found is not None or checked) and found != digest(_dump(entry).encode()):
            raise ValueError(f"line {number} of {path} was changed or is damaged; {ANEW}")
        lines.append(entry)
    return lines, size


def _migrate(path: Path, header: Entry, migrations: Sequence[Callable[[Config], Config]]) -> Config:
    """The configuration of a header, in the present format."""
    number, config = header.get("format", 1), header["config"]
    if type(number) is not int or number < 1 or not isinstance(config, dict):
        raise ValueError(f"line 1 of {path} is damaged; {ANEW}")
    if number > len(migrations) + 1:
        raise ValueError(f"{path} has the format {number} of a newer goca; update goca or choose another --out")
    try:
        for migrate in migrations[number - 1 :]:
            config = migrate(config)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(f"line 1 of {path} is damaged; {ANEW}") from None
    return config


def _check_config(path: Path, before: Config, config: Config) -> None:
    old, new = dict(flatten(before)), dict(flatten(config))
    unknown = [key for key, value in old.items() if value == UNKNOWN]
    changed = [
        _show_change(old, new, key)
        for key in dict.fromkeys((*old, *new))
        if _show(old, key) != _show(new, key) and not any(f"{key} ".startswith(f"{each} ") for each in unknown)
    ]
    if changed:
        more = f"; and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise ValueError(
            f"{path} was made with other settings: {'; '.join(changed[:5])}{more}; "
            f"resume with the same settings, or {ANEW}"
        )


def _show_change(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> str:
    if is_digest(old.get(key)) and is_digest(new.get(key)):
        return f"{key} changed"
    return f"{key} was {_show(old, key)} and is now {_show(new, key)}"


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not there"
