"""``goca models``: what can be loaded by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from goca.cli.common import PlainConsole, print_json
from goca.cli.options import JsonOption

if TYPE_CHECKING:
    from goca.models import ModelSpec

ESTIMATE = "whether a model fits is estimated from its weights: {overhead:g} times their size, {main:.1f} GiB are free"


def models(
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Those alone that fit into this machine's free memory, and with which options."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models known by name; any hub id, local folder or checkpoint of a supported pipeline works as well.

    Parameters are the denoiser's; memory is what the weights of all components take in 16 bits.

    Example: goca models --fit
    """
    from goca.models import list_models
    from goca.models.specs import DEFAULT_MODEL

    specs, ways, note = list_models(), dict[str, str](), ""
    if fit:
        from goca.models.fit import OVERHEAD, find_memory, options_that_fit

        memory = find_memory()
        ways = {spec.name: way for spec in specs if (way := options_that_fit(spec, memory)) is not None}
        specs = [spec for spec in specs if spec.name in ways]
        free = memory.main if memory.device is None else memory.device
        note = ESTIMATE.format(overhead=OVERHEAD, main=free / 2**30)
    if as_json:
        listed = [describe(spec) | ({"options": ways[spec.name]} if fit else {}) for spec in specs]
        print_json({"default": DEFAULT_MODEL, "models": listed})
        return
    console = PlainConsole()
    console.print(table_of_fitting(specs, ways) if fit else table_of(specs))
    console.print(f"default: {DEFAULT_MODEL}; embedded models come with goca and know drawn scenes only", style="dim")
    if note:
        console.print(note, style="dim")


def describe(spec: ModelSpec) -> dict[str, Any]:
    """A model for programs."""
    return asdict(spec) | {"memory_gib": spec.memory_gib}


def table_of(specs: list[ModelSpec]) -> Table:
    """A row a model, with the kind of its settings."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "pipeline", "image", "parameters", "memory", "settings"):
        table.add_column(column, no_wrap=True)
    for spec in specs:
        settings = "embedded" if spec.vocabulary is not None else "published" if spec.published else "derived"
        size = "" if spec.parameters is None else f"{spec.parameters / 1e9:.2f} B"
        pipeline = spec.pipelines[0].removesuffix("Pipeline")
        table.add_row(spec.name, pipeline, f"{spec.image_size} px", size, memory_of(spec), settings)
    return table


def table_of_fitting(specs: list[ModelSpec], ways: dict[str, str]) -> Table:
    """A row a model, with the options that it needs here."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "image", "memory", "options"):
        table.add_column(column, no_wrap=True)
    for spec in specs:
        table.add_row(spec.name, f"{spec.image_size} px", memory_of(spec), ways[spec.name])
    return table


def memory_of(spec: ModelSpec) -> str:
    """What the weights take, for people."""
    return "" if spec.memory_gib is None else f"{spec.memory_gib:.1f} GiB"
