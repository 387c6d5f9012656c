"""Work in a thread behind the one that prepares it."""

from __future__ import annotations

import threading

import pytest

from goca.storage.behind import Behind


def test_calls_are_carried_out_in_order_in_one_other_thread() -> None:
    seen: list[tuple[int, int]] = []
    with Behind(lambda number: seen.append((number, threading.get_ident()))) as behind:
        for number in range(5):
            behind(number)
    assert [number for number, _ in seen] == list(range(5))
    assert len({thread for _, thread in seen}) == 1 and threading.get_ident() not in {thread for _, thread in seen}


def test_a_call_waits_for_the_last_one() -> None:
    free, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        if number == 0:
            free.wait(10)
        done.append(number)

    with Behind(work) as behind:
        behind(0)
        assert done == []
        free.set()
        behind(1)
        assert done[0] == 0


def test_an_error_is_raised_by_the_next_call_or_at_the_end() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise OSError("the disk is full")
        done.append(number)

    with pytest.raises(OSError, match="the disk is full"), Behind(work) as behind:
        behind(1)
        behind(2)
    with pytest.raises(OSError, match="the disk is full"), Behind(work) as behind:
        behind(1)
    assert done == []
    with pytest.raises(KeyboardInterrupt), Behind(work) as behind:
        behind(3)
        raise KeyboardInterrupt
    assert done == [3]
