"""The answers so far, one line each, so that nothing that was paid for is lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from goca.storage.fields import check_keys, optional_text, text, whole
from goca.storage.journal import Entry, Journal
from goca.text.grammar import check_answer

Settings = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What came of one image: a caption, or why there is none; the tokens of all its questions and answers; and a
    digest of what was captioned."""

    index: int
    name: str
    caption: str | None
    failure: str | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    source: str | None = None


class Answers:
    """A journal of :class:`Answer` lines that threads may append to; a context manager.

    Attributes:
        all: what the file holds and what was added, oldest first.

    Args:
        overwrite: replace a file of an earlier run.

    Raises:
        ValueError: the file was begun with other settings, or is damaged.
    """

    def __init__(self, path: Path, settings: Settings, *, overwrite: bool = False) -> None:
        self._journal = Journal(path, settings, resume=not overwrite, overwrite=overwrite)
        self._captioned: set[str] = set()
        self.all = self._journal.read(self._read)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(self, answer: Answer) -> None:
        """Write one answer at once."""
        self._journal.append([asdict(answer)])
        self.all.append(answer)

    def _read(self, entry: Entry) -> Answer:
        answer = read_answer(entry)
        if answer.name in self._captioned:
            raise ValueError(f"{answer.name} had its caption before")
        if answer.caption is not None:
            self._captioned.add(answer.name)
        return answer


def read_answer(entry: Entry) -> Answer:
    """One line.

    Raises:
        ValueError: a field that is missing, of another type, or of a value that it cannot have.
    """
    check_keys(entry, ("index", "name", "caption", "failure", "prompt_tokens", "completion_tokens"), ("source",))
    caption, failure = optional_text(entry, "caption"), optional_text(entry, "failure")
    if (caption is None) == (failure is None):
        raise ValueError("it has not one of a caption and a reason why there is none")
    if caption is not None:
        check_answer(caption)
    return Answer(
        whole(entry, "index"),
        text(entry, "name"),
        caption,
        failure,
        whole(entry, "prompt_tokens"),
        whole(entry, "completion_tokens"),
        optional_text(entry, "source"),
    )
