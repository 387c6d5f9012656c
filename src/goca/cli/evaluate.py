"""``goca evaluate``: methods side by side on a data set."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from goca.cli.common import clean_stdout, print_json, print_table, progress, say, split_list
from goca.cli.options import EvaluationOptions, JsonOption, ModelOptions, RayOptions

SHOWN = 10


def evaluate(
    what: EvaluationOptions,
    model: ModelOptions,
    ray: RayOptions,
    presets: Annotated[
        str,
        typer.Option(help="Methods to compare, separated by commas: presets ({presets}) and baselines ({baselines})."),
    ] = "vanilla,paper",
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Refine the maps by self-attention and sharpen them.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Compare methods by their agreement with the true masks: mIoU, pixel accuracy, boundary IoU.

    All methods share the recordings of one pass over the images. With --out every image is written down as it
    finishes, and --resume continues after an interruption. The exit code is 1 where an image failed.

    Example: goca evaluate --dataset scenes --limit 60 --presets vanilla,paper,daam --out scores
    """
    with clean_stdout():
        from goca.method import find_methods

        methods = find_methods(split_list([presets]), refine)
        model.check(methods.values())
        experiment = what.open()
        workers = ray.connect(model.arguments())
        segmenter = model.load()
        with progress("evaluating") as report:
            answer = experiment.run(
                segmenter,
                methods,
                **what.writing,
                model_options=model.unnamed,
                progress=report,
                compute=None if workers is None else workers.evaluate,
            )
    table = Table("preset", "mIoU", "pixel acc.", "boundary IoU", "threshold", title=title(answer))
    for result in answer["results"]:
        table.add_row(result["preset"], *figures(result))
    finish(answer, table, as_json)


def title(answer: dict[str, Any]) -> str:
    """The heading of a table."""
    images = answer["settings"]["images"] - len(answer["failures"])
    return f"{answer['model']} on {images} images of {answer['dataset']}, {answer['settings']['protocol']['name']}"


def figures(result: dict[str, Any]) -> list[str]:
    """The cells of one method's row."""
    shares = [f"{result[key]:.3f}" for key in ("miou", "pixel_accuracy", "boundary_iou")]
    return [*shares, "-" if result["threshold"] is None else f"{result['threshold']:g}"]


def finish(answer: dict[str, Any], table: Table, as_json: bool) -> None:
    """Print the answer and the warnings; exit code 1 where an image failed."""
    if as_json:
        results = [{key: each[key] for key in each if key != "confusion"} for each in answer["results"]]
        print_json({**answer, "results": results})
    else:
        alignment = answer["settings"]["alignment"]
        table.caption = f"images: {answer['image_list']}; words: {answer['words']}; alignment: {alignment}"
        print_table(table)
    for note in notes(answer):
        say(f"note: {note}", error=True)
    if answer["failures"]:
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
