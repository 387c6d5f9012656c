"""What the commands share: errors as one sentence, JSON alone on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup


class OneSentenceErrors(TyperGroup):
    """A group whose commands report bad input (``ValueError``, ``OSError``, ``MemoryError``) in one sentence and end
    with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, OSError, MemoryError) as error:
            typer.echo(f"goca: {sentence(error)}", err=True)
            raise typer.Exit(2) from None


def sentence(error: Exception) -> str:
    """The message of an error on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def split_list(values: Sequence[str]) -> list[str]:
    """The entries of an option that may be repeated and may hold several entries separated by commas."""
    return [entry.strip() for value in values for entry in value.split(",") if entry.strip()]


def split_classes(values: Sequence[str]) -> list[str]:
    """The entries of ``--classes``.

    Raises:
        ValueError: there are none.
    """
    names = split_list(values)
    if not names:
        raise ValueError('name at least one class, for example --classes "cat,grass,sky"')
    return names


@contextlib.contextmanager
def clean_stdout() -> Iterator[None]:
    """Send whatever libraries print meanwhile to standard error, so that standard output holds the answer alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_json(answer: object) -> None:
    """Print the answer of a command for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def progress(task: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; the function it gives takes (steps done, steps in all).

    The first call shows the bar, so that bad input is refused without one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    identity = bar.add_task(task, total=None)
    with contextlib.ExitStack() as shown:

        def report(done: int, total: int) -> None:
            if not bar.live.is_started:
                shown.enter_context(bar)
            bar.update(identity, completed=done, total=total)

        yield report
