"""``goca evaluate``: mean intersection over union of presets on a data set."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from goca.cli.common import (
    DeviceOption,
    DtypeOption,
    FastOption,
    ModelOption,
    clean_stdout,
    load_segmenter,
    print_json,
    progress,
    split_list,
)

DATASETS = ("scenes",)


def evaluate(
    dataset: Annotated[str, typer.Option(help="Data set: scenes.")] = "scenes",
    limit: Annotated[int, typer.Option(min=1, help="How many images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Series of scenes.")] = 0,
    presets: Annotated[str, typer.Option(help="Presets to compare, separated by commas.")] = "vanilla,paper",
    model: ModelOption = None,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Refine the maps by self-attention and sharpen them.")
    ] = True,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    fast: FastOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Compare presets by their mean intersection over union (mIoU) with the true masks."""
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    names = split_list([presets])
    if not names:
        raise ValueError("name at least one preset, for example --presets vanilla,paper")
    with clean_stdout():
        from goca.evaluation.runner import evaluate_scenes
        from goca.segmenter import resolve_method

        for name in names:
            resolve_method(name)
        segmenter = load_segmenter(model, device=device, dtype=dtype, fast=fast)
        with progress("evaluating") as report:
            results = evaluate_scenes(segmenter, names, limit=limit, seed=seed, refine=refine, progress=report)
    if as_json:
        print_json({"dataset": dataset, "model": segmenter.model.spec.name, "fast": fast, "results": results})
        return
    table = Table("preset", "mIoU", title=f"{segmenter.model.spec.name}, {limit} scenes of seed {seed}")
    for result in results:
        table.add_row(result["preset"], f"{result['miou']:.3f}")
    Console().print(table)
