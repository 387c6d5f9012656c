"""``goca models``: what can be loaded by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from goca.cli.common import PlainConsole, print_json


def models(as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False) -> None:
    """List the models known by name; any hub id, local folder or checkpoint of a supported pipeline works as well.

    Parameters are the denoiser's; memory is what the weights of all components take in 16 bits.
    """
    from goca.models import list_models
    from goca.models.specs import DEFAULT_MODEL

    specs = list_models()
    if as_json:
        print_json(
            {"default": DEFAULT_MODEL, "models": [asdict(spec) | {"memory_gib": spec.memory_gib} for spec in specs]}
        )
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "pipeline", "image", "parameters", "memory", "settings"):
        table.add_column(column, no_wrap=True)
    for spec in specs:
        settings = "embedded" if spec.vocabulary is not None else "published" if spec.published else "derived"
        size = "" if spec.parameters is None else f"{spec.parameters / 1e9:.2f} B"
        memory = "" if spec.memory_gib is None else f"{spec.memory_gib:.1f} GiB"
        pipeline = spec.pipelines[0].removesuffix("Pipeline")
        table.add_row(spec.name, pipeline, f"{spec.image_size} px", size, memory, settings)
    console = PlainConsole()
    console.print(table)
    console.print(f"default: {DEFAULT_MODEL}; embedded models come with goca and know drawn scenes only", style="dim")
