"""What the commands share: errors as one sentence, JSON alone on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from goca.segmenter import Segmenter


ADDRESS = r"local|auto|ray://\S+|[\w.-]+:\d+"
DTYPES = ("float32", "float16", "bfloat16")
ModelOption = Annotated[
    str | None,
    typer.Option(help="Name shown by 'goca models', hub id, local folder or checkpoint file. Default: scenes-dit."),
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the accelerator if there is one.")]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="float32, float16, bfloat16. Default: float32 on a CPU, bfloat16 on an accelerator."),
]
OffloadOption = Annotated[
    str | None,
    typer.Option(help="Keep weights in main memory until their turn: model (whole components), sequential (layers)."),
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
LoraOption = Annotated[str | None, typer.Option(help="LoRA to put on top: hub id, folder or file.")]
FastOption = Annotated[bool, typer.Option("--fast", help="A little less exact, in less time.")]
SizeOption = Annotated[
    int | None, typer.Option(help="Side in pixels of the square that images are resized to. Default: the model's own.")
]
AspectOption = Annotated[
    bool, typer.Option("--keep-aspect", help="Keep the images' shape, at the area of that square.")
]


RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Spread the work over processes with Ray: on the cluster at ADDRESS (host:port, auto), else on this one.",
    ),
]
WorkersOption = Annotated[int, typer.Option(help="Processes that work at once with --ray.")]


class OptionalRay(TyperCommand):
    """A command whose ``--ray`` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        complete = list(args)
        if "--ray" in complete:
            after = complete.index("--ray") + 1
            if not re.fullmatch(ADDRESS, "".join(complete[after : after + 1])):
                complete.insert(after, "local")
        return super().parse_args(ctx, complete)


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
    """A progress bar on standard error; the function it gives takes (steps done, steps in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        identity = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(identity, completed=done, total=total)


def load_segmenter(
    model: str | None,
    *,
    preset: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **options: Any,
) -> Segmenter:
    """Load a model, the default one where none is named, onto a device that is there.

    Args:
        dtype: float32, float16 or bfloat16.
        options: further arguments of :meth:`goca.Segmenter.from_pretrained`.

    Raises:
        ValueError: unknown model, preset, device or dtype.
        OSError: the model cannot be fetched.
    """
    import diffusers
    import torch
    import transformers

    from goca.models.specs import DEFAULT_MODEL
    from goca.segmenter import Segmenter

    check_device(device)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"unknown number type {dtype!r}; choose one of {', '.join(DTYPES)}")
    diffusers.utils.logging.disable_progress_bar()  # loading takes a second; downloads keep their own bar
    transformers.utils.logging.disable_progress_bar()
    chosen = None if dtype is None else getattr(torch, dtype)
    return Segmenter.from_pretrained(model or DEFAULT_MODEL, device=device, dtype=chosen, method=preset, **options)


def check_device(device: str | None) -> None:
    """Raise ``ValueError`` for a device that is no device's name or not on this machine."""
    import torch

    if device is None:
        return
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"unknown device {device!r}; use cpu, cuda, cuda:1 or mps") from None
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if kind != "cpu" and (accelerator is None or accelerator.type != kind):
        raise ValueError(f"there is no {kind} device on this machine; use {accelerator.type if accelerator else 'cpu'}")
