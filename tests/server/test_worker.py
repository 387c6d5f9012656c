"""The model thread: order, batches, failures, cancellation, end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest

from goca.server.worker import QueueFullError, Work, Worker


def double(values: Sequence[int]) -> list[int]:
    return [2 * value for value in values]


def work(value: int, key: str = "double", compute: Any = double, most: int = 8) -> Work:
    return Work(key, lambda: value, compute, most)


class Held:
    """A worker that begins when it is told to, and the sizes of its batches."""

    def __init__(self, size: int = 8) -> None:
        self.go, self.sizes = threading.Event(), list[int]()
        self.worker = Worker(size, self._begin, self.sizes.append)
        self.worker.start()

    def _begin(self) -> None:
        assert self.go.wait(10)

    def results(self, *works: Work) -> list[Any]:
        for each in works:
            self.worker.submit(each)
        self.go.set()
        return [each.future.exception(10) or each.future.result(10) for each in works]


def test_equal_works_share_a_batch_and_others_keep_their_order() -> None:
    held = Held()
    other = work(5, "other")
    assert held.results(work(1), other, work(2), work(3, most=1)) == [2, 10, 4, 6]
    assert held.sizes == [3, 1]
    held.worker.close()


def test_a_batch_is_no_larger_than_it_may_be() -> None:
    held = Held()
    assert held.results(*(work(value, most=2) for value in range(5))) == [0, 2, 4, 6, 8]
    assert held.sizes == [2, 2, 1]
    held.worker.close()


def test_the_queue_is_bounded() -> None:
    held = Held(size=2)
    held.worker.submit(work(1))
    held.worker.submit(work(2))
    with pytest.raises(QueueFullError):
        held.worker.submit(work(3))
    held.worker.close(0.0)
    held.go.set()


def test_only_the_work_at_fault_fails_and_the_thread_goes_on() -> None:
    def fails_on_three(values: Sequence[int]) -> list[int]:
        if 3 in values:
            raise RuntimeError("three")
        return double(values)

    held = Held()
    results = held.results(*(work(value, compute=fails_on_three) for value in (1, 3, 5)))
    assert [results[0], str(results[1]), results[2]] == [2, "three", 10]
    assert held.results(work(7)) == [14]
    held.worker.close()


def test_what_cannot_be_prepared_does_not_spoil_the_batch() -> None:
    def refuse() -> int:
        raise ValueError("no such class")

    held = Held()
    bad = Work("double", refuse, double, 8)
    assert [str(each) for each in held.results(work(1), bad, work(2))] == ["2", "no such class", "4"]
    assert held.sizes == [3]
    held.worker.close()


def test_a_work_that_is_cancelled_leaves_the_queue_and_is_never_computed() -> None:
    held, computed = Held(size=1), list[int]()
    gone = work(1, compute=lambda values: computed.extend(values) or [0])
    held.worker.submit(gone)
    assert held.worker.position(gone) == 0
    held.worker.cancel(gone)
    assert held.worker.position(gone) is None
    assert held.results(work(2)) == [4]
    assert not computed
    held.worker.close()


def test_closing_gives_up_what_waits() -> None:
    held = Held()
    waiting = work(1)
    held.worker.submit(waiting)
    held.worker.close(0.0)
    with pytest.raises(CancelledError):
        waiting.future.result(1)
    with pytest.raises(QueueFullError):
        held.worker.submit(work(2))
    held.go.set()


def test_an_error_at_the_start_is_kept() -> None:
    def fail() -> None:
        raise ValueError("no weights")

    worker = Worker(1, fail)
    worker.start()
    worker.close()
    assert not worker.ready
    assert str(worker.error) == "no weights"
