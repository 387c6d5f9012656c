"""The answers so far, one line each, so that nothing that was paid for is lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from goca.storage.journal import Journal

Settings = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What came of one image: a caption, or why there is none; the tokens of all its questions and answers."""

    index: int
    name: str
    caption: str | None
    failure: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Answers:
    """A journal of :class:`Answer` lines that threads may append to; a context manager.

    Attributes:
        all: what the file holds and what was added, oldest first.

    Raises:
        ValueError: the file was begun with other settings, or is damaged.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(path, settings, resume=True)
        try:
            self.all = [Answer(**entry) for entry in self._journal.entries]
        except TypeError:
            self._journal.close()
            raise ValueError(f"{path} holds no captions; delete it or choose another file with --out") from None

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(self, answer: Answer) -> None:
        """Write one answer at once."""
        self._journal.append([asdict(answer)])
        self.all.append(answer)
