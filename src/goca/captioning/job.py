"""Caption many images: ask, check the answers, ask again, remember, go on after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from PIL.Image import Image

from goca.captioning.answers import Answer, Answers, Settings
from goca.captioning.replies import final_answer
from goca.captioning.request import Reply, name_classes
from goca.captioning.sources import Source
from goca.datasets.base import Dataset, Sample
from goca.images import read_image
from goca.ranges import check_limit
from goca.storage.atomic import remove_leftovers
from goca.storage.captions import load_captions, save_captions
from goca.storage.digest import file_digest, json_digest
from goca.storage.outputs import check_folder, refuse_existing
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


def caption_files(
    images: str | Sequence[str],
    source: Source,
    out: Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Caption image files; a caption is filed under the name of the file, without its folder.

    Args:
        images: paths, or one path.
        limit: at most so many images.
        source, out, overwrite, progress: see :func:`caption_all`.

    Raises:
        ValueError: see :func:`check_files` and :func:`caption_all`. OSError: see :func:`caption_all`.
    """
    check_limit(limit)
    images = [images] if isinstance(images, str) else images
    check_files(images)
    paths = {Path(path).name: Path(path) for path in images[:limit]}
    refuse_existing([out], overwrite=True, inputs=paths.values())
    return caption_all(
        {name: partial(read_image, str(path)) for name, path in paths.items()},
        source.ask,
        out,
        source.settings,
        digest=lambda name: file_digest(paths[name]),
        concurrency=source.concurrency,
        overwrite=overwrite,
        progress=progress,
    )


def check_files(images: Sequence[str]) -> None:
    """Raise ``ValueError`` where a file is missing or two have the same name."""
    for path in images:
        if not Path(path).is_file():
            raise ValueError(f"no such image file: {path}; check the path")
    names = [Path(path).name for path in images]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two images are called {twice[0]}; caption files tell images by name, so rename one")


def caption_dataset(
    dataset: Dataset,
    source: Source | None,
    out: Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Caption the images of a data set.

    Args:
        source: ``None`` names the classes that the target labels have.
        split: of the data set, if one was chosen; a file begun with another is not continued.
        limit: at most so many images.
        out, overwrite, progress: see :func:`caption_all`.

    Raises:
        ValueError, OSError: see :func:`caption_all`.
    """
    check_limit(limit)
    chosen = {"data set": dataset.key} | ({} if split is None else {"split": split})
    indices = {name: index for index, name in enumerate(dataset.names[:limit])}
    samples = {name: partial(dataset.__getitem__, index) for name, index in indices.items()}
    run = partial(
        caption_all, out=out, digest=lambda name: dataset.digest(indices[name]), overwrite=overwrite, progress=progress
    )
    if source is None:
        settings = {"source": "classes", **chosen, "classes": json_digest(dataset.classes)}
        return run(samples, lambda sample, attempt: Reply(name_classes(dataset, sample)), settings=settings)
    images = {name: partial(_read_image, read) for name, read in samples.items()}
    return run(images, source.ask, settings={**source.settings, **chosen}, concurrency=source.concurrency)


def caption_all(
    subjects: Mapping[str, Callable[[], Subject]],
    ask: Callable[[Subject, int], Reply],
    out: Path,
    settings: Settings,
    *,
    digest: Callable[[str], str | None] = lambda name: None,
    concurrency: int = 1,
    overwrite: bool = False,
    keep: bool = False,
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
        digest: of what an image is read from, by its name, so that a later call notices a change.
        overwrite: replace ``out``, and begin anew.
        keep: leave the file of answers there, so that a later call asks about nothing twice.
        progress: takes (images done, images in all).

    Raises:
        FileExistsError: ``out`` exists and is not of an interrupted run of this kind, and ``overwrite`` is not set.
        ValueError: other settings; a damaged partial file; an image that changed since.
        OSError: see :class:`SourceError`; what was answered before is kept.
    """
    unfinished = out.with_name(out.name + ".partial.jsonl")
    check_folder(out.parent)
    remove_leftovers(out.parent)
    if not unfinished.exists():
        refuse_existing([out], overwrite)
    with Answers(unfinished, settings, overwrite=overwrite) as answers:
        if not overwrite:
            _check_earlier(out, unfinished, answers.all, subjects, digest)
        captions = {answer.name: answer.caption for answer in answers.all if answer.caption is not None}
        resumed = len(captions)
        waiting = [(index, name) for index, name in enumerate(subjects) if name not in captions]
        before = len(subjects) - len(waiting)

        def work(index: int, name: str, read: Callable[[], Subject]) -> None:
            answers.add(_describe(index, name, read, ask, digest))

        progress(before, len(subjects))
        tasks = [partial(work, index, name, subjects[name]) for index, name in waiting]
        for done, _ in enumerate(_run_all(tasks, concurrency), start=before + 1):
            progress(done, len(subjects))
    found = {answer.name: answer for answer in answers.all}
    order = [*(name for name in subjects if name in found), *(name for name in found if name not in subjects)]
    ordered = [found[name] for name in order]
    summary = Summary(
        {answer.name: answer.caption for answer in ordered if answer.caption is not None},
        {answer.name: answer.failure for answer in ordered if answer.failure is not None},
        resumed,
        sum(answer.prompt_tokens for answer in answers.all),
        sum(answer.completion_tokens for answer in answers.all),
    )
    save_captions(out, summary.captions)
    if not summary.failures and not keep:
        unfinished.unlink()
    return summary


def _check_earlier(
    out: Path,
    unfinished: Path,
    answers: Sequence[Answer],
    subjects: Collection[str],
    digest: Callable[[str], str | None],
) -> None:
    """Refuse a caption file that is not of these answers, and answers on images that changed since."""
    captions = {answer.name: answer.caption for answer in answers if answer.caption is not None}
    if out.exists() and not load_captions(out).items() <= captions.items():
        refuse_existing([out])
    for answer in answers:
        known = answer.caption is not None and answer.source is not None and answer.name in subjects
        if known and digest(answer.name) != answer.source:
            raise ValueError(
                f"{answer.name} changed since {unfinished} was begun; put it back, or start anew with --overwrite"
            )


def _describe(
    index: int,
    name: str,
    read: Callable[[], Subject],
    ask: Callable[[Subject, int], Reply],
    digest: Callable[[str], str | None],
) -> Answer:
    """Ask about one image until an answer follows the grammar."""
    try:
        subject, source = read(), digest(name)
    except (ValueError, OSError) as error:
        return Answer(index, name, None, str(error))
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
            return Answer(index, name, check_answer(_text_of(replies[-1])), None, *tokens, source)
        except ValueError as error:
            failure = f"{error} (asked {len(replies)} times)"
        if replies[-1].final:
            break
    return Answer(index, name, None, failure, *tokens, source)


def _text_of(reply: Reply) -> str:
    if reply.problem:
        raise ValueError(reply.problem)
    return final_answer(reply.text)


def _run_all(tasks: Sequence[Callable[[], None]], concurrency: int) -> Iterator[None]:
    """Run tasks in threads, or in this one where ``concurrency`` is 1, and yield after each.

    The first error stops further tasks; those under way are waited for, and then it is raised. An interrupt is raised
    at once: the threads end with the process.
    """
    if concurrency == 1:
        for task in tasks:
            task()
            yield
        return
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
    stop = Event()

    def take_tasks() -> None:
        while not stop.is_set():
            try:
                task = waiting.get_nowait()
            except Empty:
                return
            try:
                task()
            except BaseException as error:
                stop.set()
                outcomes.put(error)
            else:
                outcomes.put(None)

    for task in tasks:
        waiting.put(task)
    threads = [Thread(target=take_tasks, daemon=True) for _ in range(min(concurrency, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            error = outcomes.get()
            if error is not None:
                for thread in threads:
                    thread.join()
                raise error
            yield
    finally:
        stop.set()


def _read_image(read: Callable[[], Sample]) -> Image:
    return read().image
