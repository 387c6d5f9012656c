"""One self-contained HTML page about an evaluation: settings, tables, curves, examples, failures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from goca.datasets.base import Dataset
from goca.evaluation.examples import choose_examples, show_examples
from goca.evaluation.task import CLASSES, OWN, ImageResult, Task
from goca.explorer import asset, policy
from goca.messages import visible
from goca.segmenter import Segmenter
from goca.storage.atomic import write_atomically
from goca.storage.settings import flatten

CONFUSIONS = 12
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777", "#8a6d00")
CHART, MARGIN = (640, 260), (44, 30)  # width and height of the curve, room for its numbers on the left and below


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


class Raw:
    """Text of the page itself, which is neither escaped nor made visible."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


def write_report(
    path: Path,
    answer: Mapping[str, Any],
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task,
    images: Sequence[ImageResult],
    command: str = "",
) -> None:
    """Write the page; the best and worst images of the best method are segmented once more for their pictures.

    Args:
        answer: what ``goca evaluate`` answers, see :func:`goca.evaluation.summary.summarise`.
        command: what was called.
    """
    environment = page_environment("goca.evaluation")
    results = answer["results"]
    top = max(results, key=lambda result: result["miou"])
    shown = show_examples(segmenter, dataset, task, choose_examples(images, task, top), results)
    script = asset("explorer.js") + asset("report.js", "goca.evaluation")
    lists = {"image list": answer["image_list"], "words": answer["words"]}
    page = environment.get_template("report.html").render(
        answer=answer,
        results=results,
        top=top,
        classes=class_rows(task.class_names, results, top),
        never_seen=[name for name in task.class_names if not any(name in each["per_class"] for each in results)],
        confusions=confusion_rows(task.class_names, results, top),
        curve=curve([result for result in results if "sweep" in result]),
        examples=list(zip(("Best images", "Worst images"), shown, strict=True)),
        captions=caption_source(answer["settings"]["captions"]),
        settings={key: as_text(value) for key, value in flatten({**lists, **answer["settings"]}, ": ")},
        command=command,
        date=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        script=Raw(script),
        style=Raw(asset("explorer.css")),
        policy=policy(script),
        raw=Raw,
    )
    write_atomically(path, page)


def class_rows(
    names: Sequence[str], results: Sequence[Mapping[str, Any]], top: Mapping[str, Any]
) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Per class its IoU in percent by every method and the difference to the first method, the highest of the best
    method first; ``None`` where a class neither occurs nor is predicted."""
    first = results[0]["per_class"]
    rows = []
    for name in names:
        cells = []
        for number, result in enumerate(results):
            own, base = result["per_class"].get(name), first.get(name)
            delta = None if number == 0 or own is None or base is None else 100 * (own - base)
            cells.append((None if own is None else 100 * own, delta))
        if any(value is not None for value, _ in cells):
            rows.append((name, cells))
    return sorted(rows, key=lambda row: -top["per_class"].get(row[0], -1.0))


def confusion_rows(
    names: Sequence[str], results: Sequence[Mapping[str, Any]], top: Mapping[str, Any]
) -> list[tuple[str, str, list[float]]]:
    """What the best method mistakes most, by pixels: the true class, the predicted one, and for every method the share
    of the true class's pixels in percent."""
    wrong = sorted((-pixels, true, found) for true, found, pixels in top["confusion"] if true != found)
    tables = [{(true, found): pixels for true, found, pixels in each["confusion"]} for each in results]
    totals = [Counter[int]() for _ in results]
    for total, table in zip(totals, tables, strict=True):
        for (true, _), pixels in table.items():
            total[true] += pixels
    return [
        (
            names[true],
            names[found],
            [
                100 * table.get((true, found), 0) / max(1, total[true])
                for table, total in zip(tables, totals, strict=True)
            ],
        )
        for _, true, found in wrong[:CONFUSIONS]
    ]


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
