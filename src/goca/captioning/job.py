"""Caption many images: ask, check the answers, ask again, remember, go on after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TypeVar

from goca.captioning.answers import Entry, Journal, Settings
from goca.captioning.request import Reply
from goca.storage.captions import save_captions
from goca.text.grammar import check_answer

Subject = TypeVar("Subject")
ATTEMPTS = 3


@dataclass(frozen=True)
class Summary:
    """What a run has come to, earlier interrupted runs included.

    Attributes:
        captions: of all images that have one, as written to the file.
        failures: why the other images have none.
        resumed: how many captions earlier runs had found.
        prompt_tokens: tokens of all questions, images included.
        completion_tokens: tokens of all answers.
    """

    captions: dict[str, str]
    failures: dict[str, str]
    resumed: int
    prompt_tokens: int
    completion_tokens: int


def caption_all(
    subjects: Mapping[str, Callable[[], Subject]],
    ask: Callable[[Subject, int], Reply],
    out: Path,
    settings: Settings,
    *,
    concurrency: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Ask about every image and write a caption file.

    Each answer is appended at once to ``OUT.partial.jsonl``; a later call asks only for what is not there, failures
    included. That file is removed when every image has its caption.

    Args:
        subjects: reads each image, by the name that its caption gets.
        ask: called with what was read and the number of the attempt, from ``concurrency`` threads; ``ValueError`` means
            that there is no answer for this image.
        settings: what the answers depend on; a file begun with others is refused.
        progress: takes (images done, images in all).

    Raises:
        ValueError: ``out`` exists and was not interrupted; other settings; a damaged partial file.
        OSError: see :class:`SourceError`; what was answered before is kept.
    """
    partial = out.with_name(out.name + ".partial.jsonl")
    if out.exists() and not partial.exists():
        raise ValueError(f"{out} exists already; delete it or choose another file with --out")
    with Journal(partial, settings) as journal:
        captions = {entry.name: entry.caption for entry in journal.entries if entry.caption is not None}
        resumed = len(captions)
        waiting = [(index, name) for index, name in enumerate(subjects) if name not in captions]
        before = len(subjects) - len(waiting)
        stop = Event()

        def work(index: int, name: str, read: Callable[[], Subject]) -> None:
            if stop.is_set():
                return
            try:
                journal.add(_describe(index, name, read, ask))
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(concurrency) as pool:
            try:
                progress(before, len(subjects))
                futures = [pool.submit(work, index, name, subjects[name]) for index, name in waiting]
                for done, future in enumerate(as_completed(futures), start=before + 1):
                    future.result()
                    progress(done, len(subjects))
            finally:
                stop.set()
    found = {entry.name: entry for entry in journal.entries}
    order = [*(name for name in subjects if name in found), *(name for name in found if name not in subjects)]
    ordered = [found[name] for name in order]
    summary = Summary(
        {entry.name: entry.caption for entry in ordered if entry.caption is not None},
        {entry.name: entry.failure for entry in ordered if entry.failure is not None},
        resumed,
        sum(entry.prompt_tokens for entry in journal.entries),
        sum(entry.completion_tokens for entry in journal.entries),
    )
    save_captions(out, summary.captions)
    if not summary.failures:
        partial.unlink()
    return summary


def _describe(index: int, name: str, read: Callable[[], Subject], ask: Callable[[Subject, int], Reply]) -> Entry:
    """Ask about one image until an answer follows the grammar."""
    try:
        subject = read()
    except (ValueError, OSError) as error:
        return Entry(index, name, None, str(error))
    failure, tokens = "", (0, 0)
    replies: list[Reply] = []
    for attempt in range(ATTEMPTS):
        try:
            replies.append(ask(subject, attempt))
        except ValueError as error:
            failure = str(error)
            break
        tokens = sum(each.prompt_tokens for each in replies), sum(each.completion_tokens for each in replies)
        try:
            return Entry(index, name, check_answer(replies[-1].text), None, *tokens)
        except ValueError as error:
            failure = f"{error} (asked {len(replies)} times)"
    return Entry(index, name, None, failure, *tokens)
