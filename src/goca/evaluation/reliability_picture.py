"""Reliability curves from answers of ``goca calibrate --json``: ``python -m goca.evaluation.reliability_picture A.json
B.json --out reliability.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from goca.storage.json_reader import read_json
from goca.storage.outputs import refuse_existing


def draw(answers: list[dict[str, Any]], out: Path) -> None:
    """One panel for each answer: mean IoU of every bin of masks over its mean score, before and after."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(answers), figsize=(3.4 * len(answers), 3.6), squeeze=False, sharey=True)
    for axis, answer in zip(axes[0], answers, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for key, name, style in (("raw", "raw score", "o--"), ("calibrated", "calibrated", "s-")):
            points = [(each[key], each["iou"]) for each in answer["bins"] if each[key] is not None]
            if points:
                axis.plot(*zip(*points, strict=True), style, label=name, markersize=4)
        axis.set(title=f"{answer['model']} ({answer['dataset']})", xlabel="score", xlim=(0, 1), ylim=(0, 1))
        axis.set_aspect("equal")
    axes[0][0].set_ylabel("mean IoU of the masks")
    axes[0][0].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def main(
    answers: list[Path],
    out: Annotated[Path, typer.Option(help="PNG file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
) -> None:
    """Draw the reliability curves of these answers side by side."""
    refuse_existing([out], overwrite, answers)
    draw([read_json(path) for path in answers], out)


if __name__ == "__main__":
    typer.run(main)
