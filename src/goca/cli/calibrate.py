"""``goca calibrate`` and ``goca absent``: what confidences are worth, and how well absent classes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from goca.cli.common import clean_stdout, print_json, print_table, progress, say
from goca.cli.options import (
    CalibratedModelOptions,
    ImagesOptions,
    JsonOption,
    MethodOptions,
    ModelOptions,
    OverwriteOption,
    PresetOption,
)
from goca.ranges import LARGEST_COUNT

SHOWN = 5


def calibrate(
    images: ImagesOptions,
    model: CalibratedModelOptions,
    method: MethodOptions,
    preset: PresetOption = None,
    extra: Annotated[
        int, typer.Option(min=0, max=LARGEST_COUNT, help="Most names too many: image i gets i mod (this + 1).")
    ] = 4,
    out: Annotated[
        Path | None, typer.Option(help="Fit a calibration to these images and write it to this JSON file.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what the confidence of a mask says about its IoU, and fit a calibration.

    Each image is segmented into the classes that it has and some that it has not. The error is the expected calibration
    error: how far the score is from the mean IoU of masks with such scores. With --out the curve is fitted to these
    images; measure it on others with --calibration. Brackets hold 95% intervals over the images.

    Example: goca calibrate --model scenes-dit --seed 6 --limit 200
    """
    with clean_stdout():
        from goca.evaluation.confidence import assess, fit, measure_masks
        from goca.evaluation.named import open_images
        from goca.storage.outputs import check_folder, refuse_existing

        if out is not None:
            if model.calibration is not None:
                raise ValueError("--calibration is measured and --out fits another; leave out one of the two")
            check_folder(out.parent)
            refuse_existing([out], overwrite)
        dataset, count = open_images(**images.arguments)
        segmenter = model.load(preset, method.settings)
        with progress("measuring") as report:
            masks = measure_masks(segmenter, dataset, count, extra=extra, seed=images.seed, progress=report)
        calibration = segmenter.calibration
        if out is not None:
            calibration = fit(masks, segmenter, f", seed {images.seed}")
            out.parent.mkdir(parents=True, exist_ok=True)
            calibration.save(out)
        answer = {"model": segmenter.model.spec.name, "dataset": dataset.key, "seed": images.seed}
        answer |= {**assess(masks, calibration), "file": None if out is None else str(out)}
    if as_json:
        print_json(answer)
    else:
        print_confidence(answer)
    finish(answer)


def absent(
    images: ImagesOptions,
    model: ModelOptions,
    method: MethodOptions,
    preset: PresetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well --drop-absent tells the classes that are not in an image.

    Each image is asked for the classes that it has and 1 to 4 others. Brackets hold 95% intervals over the images.

    Example: goca absent --model scenes-dit --seed 6 --limit 200
    """
    with clean_stdout():
        from goca.evaluation.absence import assess_names, measure_names
        from goca.evaluation.named import open_images

        dataset, count = open_images(**images.arguments)
        segmenter = model.load(preset, method.settings)
        with progress("measuring") as report:
            names = measure_names(segmenter, dataset, count, seed=images.seed, progress=report)
        answer = {"model": segmenter.model.spec.name, "dataset": dataset.key, "seed": images.seed}
        answer |= assess_names(names)
    if as_json:
        print_json(answer)
    else:
        print_absence(answer)
    finish(answer)


def print_confidence(answer: dict[str, Any]) -> None:
    """Two tables, and the errors before and after."""
    table = Table("masks", "raw score", "calibrated", "IoU", title=heading(answer))
    for each in answer["bins"]:
        shown = [each["raw"], each["calibrated"], each["iou"]]
        table.add_row(str(each["masks"]), *("-" if value is None else f"{value:.3f}" for value in shown))
    print_table(table)
    table = Table("ignore below", "pixels kept", "right among them")
    for each in answer["ignore"]:
        table.add_row(f"{each['below']:g}", bracket(each["kept"]), bracket(each["right"]))
    print_table(table)
    if answer["rank_correlation"] is not None:
        say(f"rank correlation of score and IoU: {answer['rank_correlation']:.3f}")
    for key in ("before", "after"):
        if answer[key] is not None:
            say(f"error {key}: {bracket(answer[key]['error'])} ({answer[key]['meaning']})")
    if answer["file"] is not None:
        say(f"the error after is on the images that the curve was fitted to; it is in {answer['file']}")


def print_absence(answer: dict[str, Any]) -> None:
    """Precision and recall by threshold, and what dropping is worth."""
    table = Table("gain below", "dropped", "precision", "recall", title=heading(answer))
    for each in answer["thresholds"]:
        mark = " (used)" if each["gain"] == answer["least_gain"] else ""
        table.add_row(
            f"{each['gain']:g}{mark}", str(each["dropped"]), bracket(each["precision"]), bracket(each["recall"])
        )
    print_table(table)
    say(f"{answer['absent']} names are absent, {answer['present']} present")
    shares = (f"{key} {value:.3f}" for key, value in answer["separation"].items() if value is not None)
    say(f"a present name scores more than an absent one: {', '.join(shares)}")
    iou = answer["iou"]
    say(f"mean IoU of the classes that are there: with all names {bracket(iou['all'])}, without the dropped ones ")
    say(f"{bracket(iou['kept'])} (difference {bracket(iou['kept - all'], '+')}), true names {bracket(iou['true'])}")


def heading(answer: dict[str, Any]) -> str:
    """The title of a table."""
    return f"{answer['model']} on {answer['images']} images of {answer['dataset']}, seed {answer['seed']}"


def bracket(value: dict[str, float | None], sign: str = "") -> str:
    """``0.123 [0.100, 0.150]``."""
    shown = f"{value['value']:{sign}.3f}"
    return shown if value["low"] is None else f"{shown} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def finish(answer: dict[str, Any]) -> None:
    """Say which images failed; exit code 1 where one did."""
    for each in answer["failures"][:SHOWN]:
        say(f"note: {each['image']} failed: {each['reason']}", error=True)
    if len(answer["failures"]) > SHOWN:
        say(f"note: {len(answer['failures']) - SHOWN} more images failed", error=True)
    if answer["failures"]:
        raise typer.Exit(1)
