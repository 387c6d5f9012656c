"""How notes reach Python users: as warnings of a category of their own, and in the log called ``goca``.

``warnings.filterwarnings("ignore", category=goca.GocaWarning)`` silences the warnings; ``logging.basicConfig()`` shows
the log.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from goca.messages import one_line, visible

LIBRARIES = ("diffusers", "transformers", "huggingface_hub")
INNER = ("goca", "torch", "diffusers", "contextlib", "functools", "jaxtyping", "beartype")


class GocaWarning(UserWarning):
    """Something about a result that its user should know, such as an image unlike all that the model has seen."""


class _OneLine(logging.Filter):
    """Makes control characters visible in whatever is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage()), ()
        return True


log = logging.getLogger("goca")
log.addHandler(logging.NullHandler())
log.addFilter(_OneLine())


def notify(notes: Iterable[str]) -> None:
    """Warn of each note once, at the line of the caller's own code."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_inner(frame):
        frame, level = frame.f_back, level + 1
    for note in dict.fromkeys(notes):
        log.warning("%s", note)
        warnings.warn(visible(note), GocaWarning, stacklevel=level)


@contextmanager
def captured_messages() -> Iterator[list[str]]:
    """What the libraries below goca log in this thread meanwhile goes to goca's log, and into the list, instead of
    standard error; the sentence that goca says about it would be lost among it."""
    collector = _Collector()
    with ExitStack() as stack:
        for name in LIBRARIES:
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(collector)
                stack.callback(handler.removeFilter, collector)
        yield collector.messages


class _Collector(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        message = record.getMessage()
        self.messages.append(message)
        log.info("%s: %s", record.name.partition(".")[0], one_line(message))
        return False


def _is_inner(frame: FrameType) -> bool:
    """Whether the code is goca's own or of a library between it and its user."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] in INNER
