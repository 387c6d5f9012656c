"""The command line: ``goca COMMAND --help`` explains each command."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from goca.cli import (
    ablate,
    bench,
    calibrate,
    caption,
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
from goca.cli.common import OneSentenceErrors
from goca.cli.options import Command, grouped

app = typer.Typer(
    name="goca",
    cls=OneSentenceErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def load_plugins(
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Module, or path of a .py file, that registers names; may be repeated."),
    ] = None,
) -> None:
    """Segment images with text-to-image diffusion models, without training (GoCA, CVPR 2026)."""
    from goca import plugins

    plugins.load_plugins(plugin or ())


for command in (
    segment.segment,
    serve.serve,
    observe.observe,
    generate.generate,
    guidance_table.guidance_table,
    models.models,
    scenes.scenes,
    evaluate.evaluate,
    ablate.ablate,
    calibrate.calibrate,
    calibrate.absent,
    reproduce.reproduce,
    verify.verify,
    bench.bench,
    caption.caption,
):
    app.command(cls=Command)(grouped(command))


def main() -> None:
    """Entry point of the ``goca`` program."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns while it is imported, of what goca does without
    app()
