from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack

import pytest
import torch

from goca.backbones.hooks import uncompiled
from goca.backbones.turns import Turn, calling, separate_calls
from goca.shared import SharedChange


class Setting:
    value = "as it was"


def changed(setting: Setting):
    if setting.value == "changed":
        return None
    before, setting.value = setting.value, "changed"
    return lambda: setattr(setting, "value", before)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_change_lasts_until_the_last_context_is_left(order: tuple[int, ...]) -> None:
    setting, change = Setting(), SharedChange(changed)
    contexts = [change(setting) for _ in order]
    for context in contexts:
        context.__enter__()
    for index in order:
        assert setting.value == "changed"
        contexts[index].__exit__(None, None, None)
    assert setting.value == "as it was"


def test_a_change_that_someone_else_undid_is_made_again() -> None:
    setting, change = Setting(), SharedChange(changed)
    with change(setting):
        setting.value = "of someone else"
        with change(setting):
            assert setting.value == "changed"
        assert setting.value == "changed"
    assert setting.value == "as it was"


def test_targets_are_apart_and_a_change_that_fails_counts_for_nothing() -> None:
    first, second, change = Setting(), Setting(), SharedChange(changed)
    with change(first):
        assert second.value == "as it was"
        with pytest.raises(AttributeError), change(object()):
            pass
    assert first.value == "as it was" and not change._count and not change._undo


def compiles() -> bool:
    graphs: list[object] = []
    torch.compile(lambda x: x + 1, backend=lambda graph, _inputs: graphs.append(graph) or graph.forward)(torch.ones(1))
    return bool(graphs)


@pytest.mark.parametrize("first", [0, 1])
def test_the_process_compiles_again_in_whatever_order_contexts_are_left(first: int) -> None:
    contexts = [uncompiled(), uncompiled()]
    for context in contexts:
        context.__enter__()
    for context in (contexts[first], contexts[1 - first]):
        assert not compiles()
        context.__exit__(None, None, None)
    assert compiles()


def test_a_stance_of_the_caller_comes_back() -> None:
    with torch.compiler.set_stance("force_eager"):
        with uncompiled():
            assert not compiles()
        assert not compiles()
    assert compiles()


def test_turns_are_taken_again_by_their_thread_and_lent() -> None:
    first, second = Setting(), Setting()
    with ExitStack() as stack:
        outer = stack.enter_context(Turn([first, second]))
        with Turn([second]):
            assert not taken_by_another_thread(first) and not taken_by_another_thread(second)
        with outer.lent():
            assert taken_by_another_thread(first) and taken_by_another_thread(second)
        assert not taken_by_another_thread(first)
    assert taken_by_another_thread(first)


def taken_by_another_thread(part: object) -> bool:
    """Whether another thread gets its turn at once."""
    taken = threading.Event()

    def take() -> None:
        with Turn([part]):
            taken.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return taken.wait(0.05)


def test_separate_calls_belong_to_something_else_until_they_end() -> None:
    before = calling()
    with pytest.raises(KeyboardInterrupt), separate_calls():
        assert calling() is not before
        raise KeyboardInterrupt
    assert calling() is before
