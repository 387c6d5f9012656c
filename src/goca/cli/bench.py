"""``goca bench``: time and memory of a segmentation over one plain forward."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from goca.cli.common import clean_stdout, print_json, print_table
from goca.ranges import LARGEST_SIDE
from goca.storage.settings import flatten


def bench(
    model: Annotated[str, typer.Argument(help="Name, hub id or local folder.")],
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="Build the model at its true size with random weights, without a download."
        ),
    ] = False,
    size: Annotated[
        int | None, typer.Option(min=8, max=LARGEST_SIDE, help="Side of the image in pixels. Default: the model's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Measure a segmentation against one plain forward of the same pipeline: time and peak memory, and their ratios."""
    with clean_stdout():
        from goca.bench import bench as measure

        answer = measure(model, random_weights=random_weights, size=size)
    if as_json:
        print_json(answer)
        return
    table = Table("figure", "value", title=f"{model} against a plain forward")
    for key, value in flatten(answer):
        table.add_row(key, f"{value:.3g}" if isinstance(value, float) else str(value))
    print_table(table)
