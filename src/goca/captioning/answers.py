"""The answers so far, one line each, so that nothing that was paid for is lost."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from goca.storage.journal import RecordFile

Settings = dict[str, str]


@dataclass(frozen=True)
class Entry:
    """What came of one image: a caption, or why there is none; the tokens of all its questions and answers."""

    index: int
    name: str
    caption: str | None
    failure: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Journal:
    """A file of :class:`Entry` lines that threads may append to; a context manager.

    Attributes:
        entries: all that the file holds, oldest first.

    Raises:
        ValueError: the file was begun with other settings, or is damaged.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = RecordFile(path, settings, resume=True)
        self._lock = threading.Lock()
        try:
            self.entries = [Entry(**record) for record in self._records.entries]
        except TypeError:
            self._records.close()
            raise ValueError(f"{path} holds no captions; delete it or choose another file with --out") from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._records.close()

    def add(self, entry: Entry) -> None:
        """Write one entry at once."""
        with self._lock:
            self._records.append([asdict(entry)])
            self.entries.append(entry)
