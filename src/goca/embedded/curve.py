"""Measure the snapshots of a training run and plot the result: ``python -m goca.embedded.curve KIND... --run FOLDER
--plot FILE``.

For every snapshot the mIoU on held-out scenes of the presets ``vanilla`` and ``paper`` is appended to
``FOLDER/<kind>/curve.jsonl``; snapshots that are already there are not measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from goca.embedded.export import list_snapshots, load_snapshot
from goca.evaluation.experiment import Experiment
from goca.method import find_methods
from goca.models import wrap
from goca.segmenter import Segmenter
from goca.storage.json_reader import read_json_lines

PRESETS = ("vanilla", "paper")
SEED = 77


def measure_snapshots(kind: str, run: Path, limit: int) -> list[dict[str, float]]:
    """One entry per snapshot: ``samples`` seen and the mIoU of each preset on ``limit`` scenes."""
    path = run / kind / "curve.jsonl"
    entries = read_json_lines(path) if path.exists() else []
    measured = {entry["samples"] for entry in entries}
    missing = [snapshot for snapshot in list_snapshots(kind, run) if int(snapshot.stem) not in measured]
    for snapshot in track(missing, f"scenes-{kind}", disable=not missing):
        segmenter = Segmenter(wrap(f"scenes-{kind}", load_snapshot(kind, run, snapshot)))
        results = Experiment.open("scenes", limit=limit, seed=SEED).run(segmenter, find_methods(PRESETS))["results"]
        entry = {"samples": int(snapshot.stem), **{result["preset"]: round(result["miou"], 4) for result in results}}
        entries.append(entry)
        with path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
    return sorted(entries, key=lambda entry: entry["samples"])


def plot(curves: dict[str, list[dict[str, float]]], logs: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Loss above, mIoU of both presets below, one column per model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(curves), figsize=(5 * len(curves), 6), sharex="col", squeeze=False)
    for column, (kind, entries) in enumerate(curves.items()):
        top, bottom = axes[0, column], axes[1, column]
        top.plot([e["samples"] for e in logs[kind]], [e["loss"] for e in logs[kind]], color="0.4")
        top.set(title=f"scenes-{kind}", ylabel="training loss", yscale="log")
        for preset in PRESETS:
            bottom.plot([e["samples"] for e in entries], [e[preset] for e in entries], marker="o", label=preset)
        bottom.set(xlabel="training samples seen", ylabel="mIoU on held-out scenes", ylim=(0, 1))
        bottom.grid(alpha=0.3)
        bottom.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    kinds: Annotated[list[str], typer.Argument(help="dit, unet, mmdit")],
    run: Annotated[Path, typer.Option(help="Folder of the training run.")],
    plot_file: Annotated[Path, typer.Option("--plot", help="Where the picture goes.")],
    limit: Annotated[int, typer.Option(help="Scenes per snapshot.")] = 100,
) -> None:
    """Measure every snapshot that was not measured before, then draw the curves."""
    curves = {kind: measure_snapshots(kind, run, limit) for kind in kinds}
    logs = {kind: read_json_lines(run / kind / "log.jsonl") for kind in kinds}
    plot(curves, logs, plot_file)


if __name__ == "__main__":
    typer.run(main)
