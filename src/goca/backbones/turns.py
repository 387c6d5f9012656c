"""Calls from several threads queue per model, and hooks know whose call they see."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn


class _Caller(threading.local):
    """What the denoiser's calls of this thread belong to at the moment."""

    def __init__(self) -> None:
        self.token = object()


_caller = _Caller()
_registry = threading.RLock()
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def calling() -> object:
    """What the denoiser's calls of this thread belong to: hooks leave alone those that belong to something else than
    when the hooks were set."""
    return _caller.token


@contextmanager
def separate_calls() -> Iterator[None]:
    """Calls inside the context belong to nothing outside it."""
    outside = _caller.token
    _caller.token = object()
    try:
        yield
    finally:
        _caller.token = outside


class Turn:
    """Context manager in which no other thread is inside a turn with one of the same objects.

    A thread may be inside several turns with the same objects. Turns with several objects take them in one order, so
    that two of them never wait for each other.
    """

    def __init__(self, parts: Iterable[object]) -> None:
        unwrapped = {id(part): part for part in (getattr(part, "_orig_mod", part) for part in parts)}
        with _registry:
            self._turns = [_locks.setdefault(unwrapped[key], threading.RLock()) for key in sorted(unwrapped)]
        self._taken = ExitStack()

    def __enter__(self) -> Turn:
        with ExitStack() as stack:
            for each in self._turns:
                stack.enter_context(each)
            self._taken = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._taken.close()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let other threads have their turn inside the context."""
        self._taken.close()
        try:
            yield
        finally:
            self.__enter__()


def models_turn(pipeline: Any) -> Turn:
    """Of the pipeline's models and tokenizers, which pipelines may share."""
    parts = {name: part for name, part in pipeline.components.items() if name != "scheduler"}
    return Turn(part for part in parts.values() if hasattr(part, "__dict__") and isinstance(part, Hashable))


def pipeline_turn(pipeline: Any) -> Turn:
    """Of the pipeline and its scheduler, which remember the call that is running."""
    return Turn([pipeline, pipeline.scheduler])


def walk(model: nn.Module) -> Iterator[nn.Module]:
    """A model and all modules in it, one that stands in several places several times; quicker than ``modules()``, which
    puts their names together."""
    waiting = [model]
    while waiting:
        module = waiting.pop()
        yield module
        waiting.extend(child for child in module._modules.values() if child is not None)


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """Models in evaluation mode, and back; what is no model is left alone."""
    modules = [module for model in models if isinstance(model, nn.Module) for module in walk(model)]
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
