"""``goca models``: what can be loaded by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from goca.cli.common import print_json


def models(as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False) -> None:
    """List the models known by name; any hub id or local folder of a supported pipeline works as well."""
    from goca.models import list_models
    from goca.specs import DEFAULT_MODEL

    specs = list_models()
    if as_json:
        print_json({"default": DEFAULT_MODEL, "models": [asdict(spec) for spec in specs]})
        return
    table = Table("name", "pipeline", "image", "settings", "description")
    for spec in specs:
        settings = "embedded" if spec.vocabulary is not None else "published" if spec.published else "derived"
        name = f"{spec.name} (default)" if spec.name == DEFAULT_MODEL else spec.name
        table.add_row(name, spec.pipelines[0], f"{spec.image_size} px", settings, spec.description)
    Console().print(table)
