"""One thread that computes with the models, and the bounded queue in front of it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("goca.server")


class QueueFullError(Exception):
    """As many works wait as may."""


class AbandonedError(Exception):
    """Nobody waits for what is computed."""


@dataclass(eq=False)
class Work:
    """Something to compute.

    Attributes:
        key: works with equal keys may be computed together.
        prepare: of this work alone; what it raises is this work's error.
        compute: of the prepared ones of several works with this key, to a result for each.
        most: works that may be computed together.
        progress: steps done and steps in all, while it is computed.
        abandoned: nobody waits for it any more.
    """

    key: Hashable
    prepare: Callable[[], Any]
    compute: Callable[[Sequence[Any]], Sequence[Any]]
    most: int = 1
    progress: tuple[int, int] = (0, 0)
    abandoned: bool = False
    future: Future[Any] = field(default_factory=Future)

    def report(self, done: int, total: int) -> None:
        """Take note of the progress.

        Raises:
            AbandonedError: ends the computation.
        """
        self.progress = (done, total)
        if self.abandoned:
            raise AbandonedError


class Worker:
    """A thread that computes works in the order in which they come, equal ones together.

    A work that fails gives its error to whoever waits for it; the thread goes on.

    Args:
        size: works that may wait; the one that is computed does not count.
        start: called first, in the thread; works wait meanwhile. What it raises is kept in :attr:`error`.
        observe: gets the number of works of each batch.
    """

    def __init__(
        self, size: int, start: Callable[[], None], observe: Callable[[int], None] = lambda count: None
    ) -> None:
        self.size, self.ready = size, False
        self.error: Exception | None = None
        self._begin, self._observe = start, observe
        self._waiting: deque[Work] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="goca-model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Let a work wait for its turn.

        Raises:
            QueueFullError: too many wait, or the thread is ending.
        """
        with self._changed:
            if self._closed or len(self._waiting) >= self.size:
                raise QueueFullError
            self._waiting.append(work)
            self._changed.notify()

    def cancel(self, work: Work) -> None:
        """Take a work that waits out of the queue; one that is computed ends at its next report, or is let go."""
        with self._changed:
            if work in self._waiting:
                self._waiting.remove(work)
        work.abandoned = True
        work.future.cancel()

    def waiting(self) -> int:
        """How many works wait."""
        return len(self._waiting)

    def position(self, work: Work) -> int | None:
        """How many works are before this one; ``None`` where it does not wait."""
        with self._changed:
            return self._waiting.index(work) if work in self._waiting else None

    def close(self, timeout: float | None = None) -> None:
        """Let no further work in, give up those that wait, and wait for the thread to end the one it computes."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for work in left:
            work.future.cancel()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._begin()
        except Exception as error:
            log.exception("the models could not be loaded")
            self.error = error
        else:
            self.ready = True
        while batch := self._take():
            self._observe(len(batch))
            self._work(batch)

    def _take(self) -> list[Work]:
        """The next works that are computed together; none where the thread is to end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return []
                first = self._waiting.popleft()
                same = [work for work in self._waiting if work.key == first.key][: first.most - 1]
                for work in same:
                    self._waiting.remove(work)
                batch = [work for work in (first, *same) if work.future.set_running_or_notify_cancel()]
                if batch:
                    return batch

    def _work(self, batch: Sequence[Work]) -> None:
        prepared: list[tuple[Work, Any]] = []
        for work in batch:
            try:
                prepared.append((work, work.prepare()))
            except Exception as error:
                work.future.set_exception(error)
        if prepared:
            self._compute(prepared)

    def _compute(self, prepared: Sequence[tuple[Work, Any]]) -> None:
        works, inputs = [work for work, _ in prepared], [each for _, each in prepared]
        try:
            results = works[0].compute(inputs)
        except Exception as error:
            if len(works) > 1:  # only the one at fault is to fail
                for each in prepared:
                    self._compute([each])
                return
            if not isinstance(error, ValueError | AbandonedError):
                log.exception("a request failed in the model")
            works[0].future.set_exception(error)
            return
        for work, result in zip(works, results, strict=True):
            work.future.set_result(result)
