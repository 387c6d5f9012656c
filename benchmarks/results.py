"""All methods on every embedded model: ``python benchmarks/results.py OUT``, continues after an interruption.

Runs ``goca evaluate`` on 500 scenes of a series that nothing was tuned on, one model after the other, writes records,
JSON and an HTML report per model into OUT, and prints the table of docs/results.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from goca.models import list_models

METHODS = ("vanilla", "daam", "single-layer", "vanilla+pamr", "vanilla+crf", "paper", "plus", "sharp")


def evaluate(model: str, out: Path, limit: int, seed: int) -> list[dict[str, Any]]:
    """Results per method."""
    command = [sys.executable, "-m", "goca", "evaluate", "--dataset", "scenes", "--model", model, "--out", str(out)]
    command += ["--limit", str(limit), "--seed", str(seed), "--presets", ",".join(METHODS)]
    command += ["--resume"] if (out / "records.jsonl").exists() else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "results.json").read_text(encoding="utf-8"))["results"]


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the results.")],
    limit: Annotated[int, typer.Option(help="Scenes.")] = 500,
    seed: Annotated[int, typer.Option(help="Series of scenes.")] = 6,
) -> None:
    """Evaluate every embedded model, then print one table."""
    models = [spec.name for spec in list_models() if spec.vocabulary is not None]
    found = {model: evaluate(model, out / model, limit, seed) for model in models}
    print(f"| method | {' | '.join(models)} |")
    print("|---" * (len(models) + 1) + "|")
    for row, method in enumerate(METHODS):
        cells = [f"{found[model][row]['miou']:.3f} ({found[model][row]['boundary_iou']:.3f})" for model in models]
        print(f"| `{method}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
