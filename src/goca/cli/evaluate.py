"""``goca evaluate``: methods side by side on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from goca.cli.common import clean_stdout, print_json, print_table, progress, say, split_list
from goca.cli.options import CsvOption, EvaluationOptions, JsonOption, MethodOptions, ModelsOptions, RayOptions

SHOWN = 10


def evaluate(
    what: EvaluationOptions,
    models: ModelsOptions,
    method: MethodOptions,
    ray: RayOptions,
    presets: Annotated[
        str,
        typer.Option(help="Methods to compare, separated by commas: presets ({presets}) and baselines ({baselines})."),
    ] = "vanilla,paper",
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Refine the maps by self-attention and by the image (PAMR).")
    ] = True,
    table: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare methods by their agreement with the true masks: mIoU, pixel accuracy, boundary IoU.

    All methods share the recordings of one pass over the images. Brackets hold 95% intervals over the images, the last
    column the difference to the first method on the same images. Settings such as --heads hold for every method.

    With --out every image is written down as it finishes (several models: in a folder of each), and --resume continues
    after an interruption. The exit code is 1 where an image failed.

    Example: goca evaluate --dataset scenes --limit 60 --presets vanilla,paper,daam --out scores
    """
    with clean_stdout():
        from goca.evaluation.csv_table import check_csv, write_csv
        from goca.evaluation.outputs import check_out
        from goca.evaluation.several import model_folders, run_models
        from goca.method import find_methods
        from goca.method_settings import change

        settings = method.settings
        threshold = settings.pop("threshold", None)
        methods = change(find_methods(split_list([presets]), refine), settings)
        check_csv(table, resume=what.resume, overwrite=what.overwrite, inputs=what.inputs)
        chosen = {each.arguments()["name"]: each for each in models.each()}
        for each in chosen.values():
            each.check(methods.values())
        for folder in model_folders(list(chosen), what.out):
            check_out(folder, what.resume, what.overwrite)
        experiment = what.open(threshold)
        with progress("evaluating") as report:

            def options(name: str) -> dict[str, Any]:
                workers = ray.connect(chosen[name].arguments())
                elsewhere = None if workers is None else workers.evaluate
                return {**what.writing, "model_options": chosen[name].unnamed, "progress": report, "compute": elsewhere}

            loaders = {name: each.load for name, each in chosen.items()}
            answers = run_models(experiment, loaders, methods, out=what.out, options=options)
        if table is not None:
            write_csv(table, answers)
    if as_json:
        shown = [without_confusion(answer) for answer in answers]
        print_json(shown[0] if len(shown) == 1 else {"models": shown})
    else:
        for answer in answers:
            print_results(answer, methods_table(answer), settings)
    finish(answers)


def methods_table(answer: dict[str, Any]) -> Table:
    """One row for each method."""
    first = answer["results"][0]["preset"]
    difference = Column(Text(f"mIoU -\n{first}"), no_wrap=True)
    table = Table(Column("preset", overflow="fold"), *figure_columns(), difference, title=title(answer))
    for result in answer["results"]:
        table.add_row(result["preset"], *figures(result), interval_text(result["difference"]))
    return table


def interval_text(numbers: dict[str, float] | None) -> Text:
    """``+0.079`` above ``[+0.061, +0.098]``; nothing for nothing."""
    return Text("" if numbers is None else "{value:+.3f}\n[{low:+.3f}, {high:+.3f}]".format(**numbers))


def title(answer: dict[str, Any]) -> str:
    """The heading of a table."""
    images = answer["settings"]["images"] - len(answer["failures"])
    return f"{answer['model']} on {images} images of {answer['dataset']}, {answer['settings']['protocol']['name']}"


def figure_columns() -> list[Column]:
    """The columns of :func:`figures`."""
    names = ("mIoU", "pixel\nacc.", "boundary\nIoU", "threshold")
    return [Column(Text(name), no_wrap=True) for name in names]


def figures(result: dict[str, Any], between: str = "\n") -> list[Text | str]:
    """The cells of one method's row; ``between`` stands between mIoU and its interval."""
    low, high = result["interval"] or (None, None)
    miou = Text(f"{result['miou']:.3f}" + ("" if low is None else f"{between}[{low:.3f}, {high:.3f}]"))
    shares = [f"{result[key]:.3f}" for key in ("pixel_accuracy", "boundary_iou")]
    return [miou, *shares, "-" if result["threshold"] is None else f"{result['threshold']:g}"]


def without_confusion(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without its longest part."""
    results = [{key: each[key] for key in each if key != "confusion"} for each in answer["results"]]
    return {**answer, "results": results}


def print_results(answer: dict[str, Any], table: Table, settings: dict[str, Any]) -> None:
    """Print a table and what its numbers depend on.

    Args:
        settings: those of the method that were named on the command line.
    """
    from goca.method_settings import describe

    alignment = answer["settings"]["alignment"]
    table.caption = f"images: {answer['image_list']}; words: {answer['words']}; alignment: {alignment}"
    if settings:
        table.caption += f"; settings of the method: {describe(settings)}"
    print_table(table)


def finish(answers: Sequence[dict[str, Any]]) -> None:
    """Print the warnings; exit code 1 where an image failed."""
    for answer in answers:
        start = f"{answer['model']}: " if len(answers) > 1 else ""
        for note in notes(answer):
            say(f"note: {start}{note}", error=True)
    if any(answer["failures"] for answer in answers):
        raise typer.Exit(1)


def notes(answer: dict[str, Any]) -> list[str]:
    """What the user should know about the numbers, in sentences."""
    found = [*answer["notes"]]
    if answer["missed"]:
        missed = sorted(answer["missed"].items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} (in {count} images)" for name, count in missed[:SHOWN])
        more = f" and {len(missed) - SHOWN} classes more" if len(missed) > SHOWN else ""
        found.append(f"not looked for where they are, as the caption lacks them or is too long: {shown}{more}")
    if answer["never_named"]:
        found.append(f"never looked for at all: {', '.join(answer['never_named'])}")
    if answer["captions_without_image"]:
        found.append(f"{answer['captions_without_image']} captions belong to none of the images")
    failures = answer["failures"]
    found += [f"{each['image']} failed: {each['reason']}" for each in failures[:SHOWN]]
    if len(failures) > SHOWN:
        found.append(f"{len(failures) - SHOWN} more images failed")
    return found
