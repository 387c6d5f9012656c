"""One self-contained HTML page about an evaluation: settings, tables, curves, examples, failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from goca.datasets.base import VOID, Dataset
from goca.evaluation.runner import predict
from goca.evaluation.summary import image_miou
from goca.evaluation.task import CLASSES, OWN, ImageResult, Task
from goca.messages import visible
from goca.render import BACKGROUND_COLOUR, data_uri, hex_colour, paint, run_colours
from goca.segmenter import Segmenter
from goca.storage.atomic import write_atomically
from goca.storage.settings import flatten

EXAMPLES = 4  # best and as many worst
PICTURE_SIDE, PICTURE_QUALITY = 240, 85
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8a6d00")
CHART, MARGIN = (640, 260), (44, 30)  # width and height of the curve, room for its numbers on the left and below


@dataclass(frozen=True)
class Example:
    """One image as shown: its name, mean IoU, addresses of image, target and prediction, and (name, colour) of its
    classes."""

    name: str
    miou: float
    pictures: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]


def page_environment(package: str) -> Environment:
    """For pages from templates beside a package's modules: texts are escaped, and shown by
    :func:`goca.messages.visible`."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        finalize=lambda value: type(value)(visible(value)) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def write_report(
    path: Path,
    answer: Mapping[str, Any],
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task,
    images: Sequence[ImageResult],
) -> None:
    """Write the page; the best and worst images of the best method are segmented once more for their pictures.

    Args:
        answer: what ``goca evaluate`` answers, see :func:`goca.evaluation.summary.summarise`.
    """
    environment = page_environment("goca.evaluation")
    results = answer["results"]
    top = max(results, key=lambda result: result["miou"])
    best, worst = choose_examples(images, task, top)
    shown = show(segmenter, dataset, task, [*best, *worst], top)
    classes = [name for name in task.class_names if any(name in result["per_class"] for result in results)]
    lists = {"image list": answer["image_list"], "words": answer["words"]}
    page = environment.get_template("report.html").render(
        answer=answer,
        results=results,
        top=top,
        classes=classes,
        never_seen=[name for name in task.class_names if name not in classes],
        curve=curve([result for result in results if "sweep" in result]),
        examples=[("Best images", shown[: len(best)]), ("Worst images", shown[len(best) :])],
        captions=caption_source(answer["settings"]["captions"]),
        settings={key: as_text(value) for key, value in flatten({**lists, **answer["settings"]}, ": ")},
    )
    write_atomically(path, page)


def choose_examples(
    images: Sequence[ImageResult], task: Task, result: Mapping[str, Any]
) -> tuple[list[ImageResult], list[ImageResult]]:
    """Images with the highest and the lowest mean IoU of one method, none twice."""
    step = step_of(task, result)
    good = [image for image in images if image.error is None]
    ranked = sorted(good, key=lambda image: -image_miou(image, result["preset"], step, task))
    best = ranked[: min(EXAMPLES, (len(ranked) + 1) // 2)]
    return best, ranked[len(best) :][-EXAMPLES:][::-1]


def step_of(task: Task, result: Mapping[str, Any]) -> int:
    """The number of the threshold that a method's result was taken at."""
    thresholds = task.protocol.thresholds_for(task.methods[result["preset"]])
    return thresholds.index(result["threshold"]) if thresholds else 0


def show(
    segmenter: Segmenter, dataset: Dataset, task: Task, images: Sequence[ImageResult], result: Mapping[str, Any]
) -> list[Example]:
    """Image, target and prediction of some images, side by side; a class has one colour in all of them, void
    has none."""
    step, names = step_of(task, result), task.class_names
    labels = []
    for image in images:
        sample = dataset[image.index]
        labels.append((task.target(sample), predict(segmenter, sample, task, result["preset"]).labels(step)))
    found = [[int(value) for value in np.union1d(*pair) if value != VOID] for pair in labels]
    colours = run_colours([names[value] for value in values] for values in found)
    palette = [colours.get(name, BACKGROUND_COLOUR) for name in names]
    examples = []
    for image, pair, values in zip(images, labels, found, strict=True):
        picture = dataset[image.index].image
        pictures = (picture, *(paint(picture, each, palette) for each in pair))
        legend = tuple((names[value], hex_colour(palette[value])) for value in values)
        uris = tuple(data_uri(each, PICTURE_SIDE, PICTURE_QUALITY) for each in pictures)
        examples.append(Example(image.name, image_miou(image, result["preset"], step, task), uris, legend))
    return examples


def curve(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """mIoU over the threshold in the coordinates of a drawing; ``None`` where nothing was swept."""
    if not results:
        return None
    thresholds = [entry["threshold"] for entry in results[0]["sweep"]]
    highest = max(0.1, np.ceil(max(entry["miou"] for each in results for entry in each["sweep"]) * 10) / 10)
    (width, height), (left, bottom) = CHART, MARGIN

    def place(threshold: float, miou: float) -> tuple[float, float]:
        across = (threshold - thresholds[0]) / (thresholds[-1] - thresholds[0])
        return round(left + across * (width - left - 10), 1), round(
            10 + (1 - miou / highest) * (height - bottom - 10), 1
        )

    lines = [
        {
            "name": each["preset"],
            "colour": LINES[number % len(LINES)],
            "points": " ".join("{},{}".format(*place(entry["threshold"], entry["miou"])) for entry in each["sweep"]),
            "best": place(each["threshold"], each["miou"]),
        }
        for number, each in enumerate(results)
    ]
    levels = [round(0.1 * step, 1) for step in range(round(highest * 10) + 1)]
    return {
        "size": CHART,
        "left": left,
        "lines": lines,
        "levels": [(level, place(thresholds[0], level)[1]) for level in levels],
        "marks": [(value, place(value, 0.0)[0]) for value in thresholds[::2]],
        "floor": place(thresholds[0], 0.0)[1],
    }


def caption_source(captions: str | Mapping[str, str]) -> str:
    """Where the captions come from, in words."""
    if isinstance(captions, Mapping):
        return captions["file"]
    return {OWN: "the data set's own, else the true classes", CLASSES: "the true classes"}[captions]


def as_text(value: Any) -> str:
    """A setting as it is shown."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
