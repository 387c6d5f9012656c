"""``goca ablate``: what each part of the method adds."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from goca.cli.common import clean_stdout, progress
from goca.cli.evaluate import figures, finish, title
from goca.cli.options import EvaluationOptions, JsonOption, ModelOptions


def ablate(what: EvaluationOptions, model: ModelOptions, as_json: JsonOption = False) -> None:
    """Measure what head aggregation, layer aggregation and rescaling add, each alone and together.

    The rows are those of the paper's ablation, all from one pass over the images: none (plain averages), hand-picked
    layers where some were published, each part alone, all. A model whose own rule for heads is the average gains
    nothing from "head", one without self-attention maps (Sana) nothing from "layer".

    Example: goca ablate --dataset scenes --limit 60
    """
    with clean_stdout():
        experiment = what.open()
        segmenter = model.load()
        with progress("evaluating") as report:
            answer = experiment.ablate(segmenter, **what.writing, model_options=model.unnamed, progress=report)
    finish(answer, ablation_table(answer), as_json)


def ablation_table(answer: dict[str, Any]) -> Table:
    """One row per combination, with a mark under each part that it has."""
    marks = {"none": ("", "", ""), "manual layers": ("", "manual", ""), "all": ("x", "x", "x")}
    table = Table("head", "layer", "rescale", "mIoU", "pixel acc.", "boundary IoU", "threshold", title=title(answer))
    for result in answer["results"]:
        name = result["preset"]
        parts = marks.get(name) or tuple("x" if part == name else "" for part in ("head", "layer", "rescale"))
        table.add_row(*parts, *figures(result))
    return table
