"""The command line: ``goca COMMAND --help`` explains each command."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from goca import __version__
from goca.cli import (
    ablate,
    bench,
    calibrate,
    caption,
    doctor,
    evaluate,
    generate,
    guidance_table,
    models,
    observe,
    reproduce,
    scenes,
    segment,
    serve,
    verify,
)
from goca.cli.common import say
from goca.cli.options import Command, grouped
from goca.cli.program import Program

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Segment": (segment.segment, observe.observe, serve.serve),
    "Draw": (generate.generate, guidance_table.guidance_table),
    "Measure": (
        evaluate.evaluate,
        ablate.ablate,
        calibrate.calibrate,
        calibrate.absent,
        reproduce.reproduce,
        caption.caption,
        scenes.scenes,
    ),
    "This machine": (doctor.doctor, models.models, bench.bench, verify.verify),
}
"""The commands by task, as ``goca --help`` shows them."""

app = typer.Typer(
    name="goca",
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)


def show_version(wanted: bool) -> bool:
    """Print the version and end, where that is wanted."""
    if wanted:
        say(f"goca {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def load_plugins(
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Module, or path of a .py file, that registers names; may be repeated."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version.")
    ] = False,
) -> None:
    """Segment images with text-to-image diffusion models, without training (GoCA, CVPR 2026)."""
    from goca import plugins

    plugins.load_plugins(plugin or ())


for task, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=task)(grouped(command))


def main() -> None:
    """Entry point of the ``goca`` program."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns while it is imported, of what goca does without
    app()
