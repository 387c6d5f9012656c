"""Changes to what contexts of several threads share: the process, a module, a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Undo = Callable[[], object]


class SharedChange:
    """A change that lasts as long as anyone is inside one of its contexts, in whatever order they are left.

    The first context on a target makes the change, the last one undoes it. A context that finds the change undone by
    someone else in between makes it again, and on the way back its undoing comes first.

    Args:
        make: changes the target and returns what undoes that; ``None`` where the target is as wanted already.
    """

    def __init__(self, make: Callable[[Any], Undo | None]) -> None:
        self._make = make
        self._lock = threading.RLock()  # a context may be left by the garbage collector, at any moment
        self._count: dict[int, int] = {}
        self._undo: dict[int, list[Undo]] = {}

    @contextmanager
    def __call__(self, target: object = None) -> Iterator[None]:
        """Change ``target`` inside the context; the process, where there is none."""
        key = id(target)  # the contexts keep the target alive
        with self._lock:
            undo = self._make(target)
            self._count[key] = self._count.get(key, 0) + 1
            if undo is not None:
                self._undo.setdefault(key, []).append(undo)
        try:
            yield
        finally:
            with self._lock:
                self._count[key] -= 1
                if not self._count[key]:
                    del self._count[key]
                    for undo in reversed(self._undo.pop(key, [])):
                        undo()
