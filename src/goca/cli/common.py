"""What the commands share: errors as one sentence, JSON alone on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from goca.lookup import read_names
from goca.messages import one_line, sentence, visible


class OneSentenceErrors(TyperGroup):
    """A group whose commands report bad input (wrong usage, ``ValueError``, ``OSError``, ``MemoryError``) in one
    sentence and end with exit code 2."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run a command and end the process with its exit code."""
        take_any_character()
        try:
            with warnings.catch_warnings():
                if not sys.warnoptions:  # commands print notes themselves
                    warnings.simplefilter("ignore")
                code = super().main(*args, **{**options, "standalone_mode": False})
        except (ValueError, OSError, MemoryError) as error:
            refuse(sentence(error))
        except Exception as error:
            if not hasattr(error, "format_message"):  # what Typer raises on wrong usage
                raise
            refuse(explain_usage(error))
        sys.exit(code if isinstance(code, int) else 0)


def take_any_character() -> None:
    """Let standard output and standard error take characters that their code page lacks, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def refuse(reason: str) -> NoReturn:
    """Say why a command cannot do what it is asked for, and end with exit code 2."""
    say(f"goca: {reason}", error=True)
    sys.exit(2)


def explain_usage(error: Any) -> str:
    """The sentence for options and arguments that do not fit the command."""
    reason = one_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context is not None else ""
    return reason[:1].lower() + reason[1:] + hint


def say(text: str, *, error: bool = False) -> None:
    """Print one line of text, or on standard error a note."""
    typer.echo(visible(text), err=error)


def split_list(values: Sequence[str]) -> list[str]:
    """The entries of an option that may be repeated and may hold several entries separated by commas."""
    return [entry for value in values for entry in read_names(value, "entry")]


def split_models(values: Sequence[str]) -> list[str]:
    """The models of such an option, each once; a path that is there may hold commas.

    Raises:
        ValueError: the option names none.
    """
    names = (name for value in values for name in ([value] if value and Path(value).exists() else split_list([value])))
    found = list(dict.fromkeys(names))
    if values and not found:
        raise ValueError("name at least one model, for example scenes-dit; goca models lists them")
    return found


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
    """Print the answer of a command for programs, in ASCII, which every code page can write."""
    typer.echo(json.dumps(answer, indent=2))


def print_table(table: Table) -> None:
    """Print a table whose texts are taken as they are, without markup."""
    PlainConsole().print(table)


class PlainConsole(Console):
    """A console on which text means nothing but itself: no markup, no emoji codes, no control characters."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text without control characters."""
        return super().render_str(visible(text), **options)


def print_settings(settings: Mapping[str, Any]) -> None:
    """Say which settings of the method were named on the command line, if any."""
    from goca.method_settings import describe

    if settings:
        say(f"settings of the method: {describe(settings)}")


class Speed(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2g}/s")


@contextlib.contextmanager
def progress(task: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; the function it gives takes (steps done, steps in all).

    The first call shows the bar, so that bad input is refused without one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    identity = bar.add_task(task, total=None)
    with contextlib.ExitStack() as shown:

        def report(done: int, total: int) -> None:
            if not bar.live.is_started:
                shown.enter_context(bar)
            bar.update(identity, completed=done, total=total)

        yield report


def command_line() -> str:
    """The command as it was typed, quoted for a shell."""
    return shlex.join(["goca", *sys.argv[1:]])
