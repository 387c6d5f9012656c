"""``goca ablate``: what each part of the method adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.table import Table

from goca.cli.common import clean_stdout, print_json, progress
from goca.cli.evaluate import figure_columns, figures, finish, print_results, title, without_confusion
from goca.cli.options import CsvOption, EvaluationOptions, JsonOption, MethodOptions, ModelOptions


def ablate(
    what: EvaluationOptions,
    model: ModelOptions,
    method: MethodOptions,
    table: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what head aggregation, layer aggregation and rescaling add, each alone and together.

    The rows are those of the paper's ablation, all from one pass over the images: none (plain averages), hand-picked
    layers where some were published, each part alone, all. A model whose own rule for heads is the average gains
    nothing from "head", one without self-attention maps (Sana) nothing from "layer".

    --heads, --layers, --layer-set and --rescale are the parts that are added, by default the paper's; other settings
    hold for every row.

    Example: goca ablate --dataset scenes --limit 60
    """
    with clean_stdout():
        from goca.evaluation.csv_table import check_csv, write_csv
        from goca.method import PRESETS

        settings = method.settings
        threshold = settings.pop("threshold", None)
        full = replace(PRESETS["paper"], **settings)
        model.check([full])
        check_csv(table, resume=what.resume, overwrite=what.overwrite, inputs=what.inputs)
        experiment = what.open(threshold)
        segmenter = model.load()
        with progress("evaluating") as report:
            options = {**what.writing, "out": what.out, "model_options": model.unnamed, "progress": report}
            answer = experiment.ablate(segmenter, full, **options)
        if table is not None:
            write_csv(table, [answer])
    if as_json:
        print_json(without_confusion(answer))
    else:
        print_results(answer, ablation_table(answer), settings)
    finish([answer])


def ablation_table(answer: dict[str, Any]) -> Table:
    """One row per combination, with a mark under each part that it has."""
    marks = {"none": ("", "", ""), "manual layers": ("", "manual", ""), "all": ("x", "x", "x")}
    table = Table("head", "layer", "rescale", *figure_columns(), title=title(answer))
    for result in answer["results"]:
        name = result["preset"]
        parts = marks.get(name) or tuple("x" if part == name else "" for part in ("head", "layer", "rescale"))
        table.add_row(*parts, *figures(result, between=" "))
    return table
