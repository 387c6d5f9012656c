"""``goca reproduce``: the paper's tables, measured again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as TerminalTable
from rich.text import Text

from goca.cli.common import clean_stdout, print_json, print_table, progress, say, split_list, split_models
from goca.cli.options import (
    DeviceOption,
    DeviceOptions,
    DtypeOption,
    JsonOption,
    OffloadOption,
    OutOption,
    count_option,
)

if TYPE_CHECKING:
    from goca.evaluation.reproduce.table import Table


def reproduce(
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE...]", help="{tables}. Default: all of them.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data: DATA/voc, DATA/coco-30k ..., and DATA/captions/voc.json ..."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Names, hub ids or local folders, separated by commas. Default: those of the paper."),
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            help="Data sets of table-1 and ablation, separated by commas: {datasets}. Default: those of the paper; "
            "scenes for embedded models."
        ),
    ] = None,
    limit: Annotated[int | None, count_option("Most images of each run. Default: as many as the paper takes.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: OffloadOption = None,
    out: OutOption = Path("goca-reproduce"),
    as_json: JsonOption = False,
) -> None:
    """Measure the paper's tables again and show them beside the numbers that it reports.

    Takes the data sets and checkpoints that are on this machine, by protocol paper, and lists what is missing with
    where to get it. Writes TABLE.csv, TABLE.tex, TABLE.html and TABLE.json. The same command goes on where it was
    stopped. The exit code is 1 where an image failed, 2 where nothing is at hand.

    Without data or downloads, on generated scenes: goca reproduce --models scenes-dit,scenes-unet

    Example: goca reproduce table-1 --root data --models sd15,sdxl
    """
    with clean_stdout():
        from goca.evaluation.reproduce.experiment import reproduce as measure
        from goca.evaluation.reproduce.reported import TABLES

        keys = split_list(datasets or [])
        if datasets and not keys:
            raise ValueError("name at least one data set, for example --datasets voc")
        with progress("measuring") as report:
            found = measure(
                tables or tuple(TABLES),
                root=root,
                models=split_models(models or []),
                datasets=keys,
                limit=limit,
                out=out,
                load=lambda name: DeviceOptions(name, device, dtype, offload).load(),
                progress=report,
            )
    if as_json:
        print_json({"tables": [table.to_json() for table in found]})
    for table in found:
        if not as_json:
            print_table(terminal_table(table))
            say(f"{out / table.name}.html, .tex, .csv, .json")
        for note in table.notes:
            say(f"note: {note}", error=True)
        for missing in table.missing:
            say(f"missing: {missing}", error=True)
    if any(table.failed for table in found):
        raise typer.Exit(1)


def terminal_table(table: Table) -> TerminalTable:
    """One line per number."""
    from goca.evaluation.reproduce.table import interval, number, title_of

    shown = TerminalTable(
        "model", "method", "on", "reported", "ours", "difference", title=f"{table.name}: {table.title}"
    )
    for cell in table.cells:
        value, low, high = cell.difference
        shown.add_row(
            cell.model,
            title_of(cell.row),
            title_of(cell.column),
            number(cell.reported, cell.column),
            with_interval(number(cell.ours, cell.column), interval(cell.low, cell.high, cell.column)),
            with_interval(number(value, cell.column, "+"), interval(low, high, cell.column, "+")),
        )
    return shown


def with_interval(value: str, spread: str) -> Text:
    """The number above its interval."""
    return Text(f"{value}\n{spread}" if spread else value)
