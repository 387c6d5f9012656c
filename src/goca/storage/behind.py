"""Writing in a thread while the next results are computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Behind:
    """Calls a function in a thread of its own, in the order of the calls; a context manager.

    A call waits until the last one has been carried out, so that one piece of work is under way at most. Its error is
    raised by the next call, or when the context is left; after an error inside the context the last call is waited for.

    Args:
        work: the function.
    """

    def __init__(self, work: Callable[..., object]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._last: Future[object] | None = None

    def __call__(self, *arguments: Any) -> None:
        self._wait()
        self._last = self._thread.submit(self._work, *arguments)

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()
