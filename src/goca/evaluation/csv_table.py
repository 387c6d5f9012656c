"""Results of an evaluation as one CSV table: a row for each model and method, a column for the IoU of each class."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goca.storage.atomic import write_atomically
from goca.storage.outputs import check_folder, refuse_existing

START = b"model,dataset,protocol,preset,images,"


def check_csv(
    path: Path | None, *, resume: bool = False, overwrite: bool = False, inputs: Sequence[str | Path] = ()
) -> None:
    """Refuse early a file that cannot be written.

    Args:
        resume: replace a table of an earlier run.
        overwrite: replace whatever is there already.
        inputs: files that the run reads.

    Raises:
        ValueError: a folder. FileExistsError: it is there already, or an input. OSError: its folder cannot be one.
    """
    if path is None:
        return
    check_folder(path.parent)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file for the table, for example {path / 'results.csv'}")
    refuse_existing([path], overwrite or (resume and is_table(path)), inputs)


def is_table(path: Path) -> bool:
    """Whether a file is a table of an evaluation."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(START)) == START


def write_csv(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of these answers of :meth:`goca.evaluation.experiment.Experiment.run`; shares are in [0, 1], and
    a class that neither occurs nor is predicted is left empty."""
    results = [result for answer in answers for result in answer["results"]]
    classes = list(dict.fromkeys(name for result in results for name in result["per_class"]))
    rows = [
        {**row(answer, result), **{f"iou {name}": result["per_class"].get(name) for name in classes}}
        for answer in answers
        for result in answer["results"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, csv_text(list(rows[0]), rows))


def row(answer: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one method, but for its classes."""
    low, high = result["interval"] or (None, None)
    difference = result["difference"] or {"value": None, "low": None, "high": None}
    return {
        "model": answer["model"],
        "dataset": answer["dataset"],
        "protocol": answer["settings"]["protocol"]["name"],
        "preset": result["preset"],
        "images": result["images"],
        "miou": result["miou"],
        "low": low,
        "high": high,
        **{f"difference{'' if key == 'value' else '_' + key}": value for key, value in difference.items()},
        "pixel_accuracy": result["pixel_accuracy"],
        "boundary_iou": result["boundary_iou"],
        "threshold": result["threshold"],
    }


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, whose first line holds the columns' names; ``None`` is an empty field."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
