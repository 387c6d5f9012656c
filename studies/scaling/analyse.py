"""Does segmentation follow generation? Statistics of the stored measurements: ``python studies/scaling/analyse.py``.

The x axis is quality = -log2(Frechet distance of generated images), so that a slope is the mIoU gained while the
distance halves; it does not come from segmentation. Intervals are 95% bootstrap intervals over the held-out scenes and
the generated images, drawn alike for all snapshots and methods. They say nothing of other trainings: for that stands
the rank correlation over independent runs (the last snapshot of each), with its permutation p and n.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table

from goca.evaluation.generation.statistics import draw_counts, frechet_distance, interval
from goca.storage.json_reader import read_json

MEASUREMENTS = Path(__file__).parent / "measurements"
EXACT_RUNS = 8
SHUFFLES = 20_000
Sets = Float64[np.ndarray, " sets"]


@dataclass(frozen=True)
class Snapshot:
    """One measured snapshot; arrays hold the value itself first, then those of the bootstrap's sets.

    Attributes:
        run: rung and seed.
        samples: seen in training.
        frechet: distance of generated images to real ones.
        recall: share of the named things that are found in them.
        error: mean squared error of the predicted clean latent, over five noise levels.
        miou: by method.
    """

    run: str
    samples: int
    frechet: Sets
    recall: Sets
    error: float
    miou: dict[str, Sets]

    @property
    def quality(self) -> Sets:
        """-log2 of the Frechet distance."""
        return -np.log2(self.frechet)


def read_snapshot(path: Path) -> Snapshot:
    """One file that ``python -m goca.embedded.measure`` wrote."""
    stored = read_json(path)
    generation, segmentation = stored["generation"], stored["segmentation"]
    components = np.array(generation["components"])
    drawn = draw_counts(len(components))
    configuration = stored["configuration"]
    return Snapshot(
        f"{configuration['rung']}-seed{configuration['seed']}",
        stored["samples"],
        bootstrap_frechet(components, np.array(generation["reference_variances"]), drawn),
        drawn @ np.array(generation["recalled"]) / len(components),
        float(np.mean([np.mean(errors) for errors in stored["denoising"]["errors"].values()])),
        bootstrap_miou(segmentation["true"], segmentation["counts"]),
    )


def bootstrap_frechet(
    components: Float64[np.ndarray, "images axes"], variances: Float64[np.ndarray, " axes"], drawn: np.ndarray
) -> Sets:
    """Frechet distance of sets of images, image i occurring ``drawn[:, i]`` times, to a Gaussian of these variances."""
    number = drawn.sum(axis=1)
    means = drawn @ components / number[:, None]
    squares = np.einsum("bn,ni,nj->bij", drawn, components, components, optimize=True)
    spread = squares - np.einsum("b,bi,bj->bij", number, means, means)
    covariances = spread / (number - 1)[:, None, None]
    return frechet_distance(means, covariances, np.zeros(len(variances)), np.diag(variances))


def bootstrap_miou(true: Sequence[dict[str, int]], counts: dict[str, list]) -> dict[str, Sets]:
    """mIoU of each method over the classes that occur or are predicted, for all sets of scenes."""
    names = sorted({name for scene in true for name in scene})
    drawn = draw_counts(len(true))
    result = {}
    for method, scenes in counts.items():
        table = np.zeros((len(true), len(names), 2), np.int64)
        for row, scene, pairs in zip(table, true, scenes, strict=True):
            for (name, pixels), (common, predicted) in zip(scene.items(), pairs, strict=True):
                row[names.index(name)] = common, pixels + predicted - common
        common, union = np.moveaxis(np.tensordot(drawn, table, 1), -1, 0)
        result[method] = np.nanmean(np.divide(common, union, out=np.full(union.shape, np.nan), where=union > 0), axis=1)
    return result


def slope(x: Float64[np.ndarray, "points sets"], y: Float64[np.ndarray, "points sets"]) -> Sets:
    """Least squares slope of y on x, both centred over the points already."""
    return (x * y).sum(axis=0) / (x * x).sum(axis=0)


def centre(values: Float64[np.ndarray, "points sets"], runs: Sequence[str]) -> Float64[np.ndarray, "points sets"]:
    """Values less the mean of their run."""
    result = np.empty_like(values)
    for run in set(runs):
        rows = [index for index, each in enumerate(runs) if each == run]
        result[rows] = values[rows] - values[rows].mean(axis=0)
    return result


def within_runs(
    snapshots: Sequence[Snapshot], method: str, partial: bool
) -> tuple[Float64[np.ndarray, "points sets"], Float64[np.ndarray, "points sets"]]:
    """Quality and mIoU of one method, centred in each run; with ``partial`` less what log2(samples) explains."""
    runs = [each.run for each in snapshots]
    x = centre(np.stack([each.quality for each in snapshots]), runs)
    y = centre(np.stack([each.miou[method] for each in snapshots]), runs)
    if partial:
        seen = centre(np.log2([[float(each.samples)] for each in snapshots]), runs)
        x, y = x - seen * slope(seen, x), y - seen * slope(seen, y)
    return x, y


def spearman(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Spearman's rho and its two-sided permutation p, exact up to 8 points; ties do not occur in measurements."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (x, y))
    first -= first.mean()
    second -= second.mean()
    norm = (first**2).sum()
    if len(first) <= EXACT_RUNS:
        orders = np.array(list(permutations(range(len(first)))))
    else:
        rng = np.random.default_rng(0)
        orders = np.stack([np.arange(len(first)), *(rng.permutation(len(first)) for _ in range(SHUFFLES))])
    rhos = second[orders] @ first / norm
    rho = float(second @ first / norm)
    return rho, float(np.mean(np.abs(rhos) >= abs(rho) - 1e-9))


def analyse(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """Per method the slopes within runs and the rank correlation over runs; and the differences of slopes to vanilla.

    ``slope`` pools all runs, each about its own mean; ``partial`` is the same with log2(samples seen) partialled out.
    Both are ``None`` where too few snapshots are measured, rho and p where fewer than two runs are finished.
    """
    last = {each.run: each for each in sorted(snapshots, key=lambda each: each.samples)}
    ends = [each for each in last.values() if each.samples == max(other.samples for other in snapshots)]
    free = len(snapshots) - len(last)  # points less the runs' means
    methods: dict[str, dict[str, Any]] = {name: {} for name in snapshots[0].miou}
    for part, partial in (("slope", False), ("partial", True)):
        slopes = {name: slope(*within_runs(snapshots, name, partial)) for name in methods} if free > 1 + partial else {}
        for name, numbers in methods.items():
            numbers[part] = interval(slopes[name]) if slopes else None
            numbers[f"{part}_minus_vanilla"] = interval(slopes[name] - slopes["vanilla"]) if slopes else None
    quality = [float(each.quality[0]) for each in ends]
    for name, numbers in methods.items():
        ranks = spearman(quality, [float(each.miou[name][0]) for each in ends]) if len(ends) > 1 else (None, None)
        numbers |= {"rho": ranks[0], "p": ranks[1], "n": len(ends)}
    return {"snapshots": len(snapshots), "runs": len(last), "methods": methods}


def show(numbers: dict[str, float | None] | None, digits: int = 3) -> str:
    """``0.912 [0.880, 0.941]``, or a dash."""
    if numbers is None:
        return "-"
    value, low, high = (f"{numbers[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the measurements.")] = MEASUREMENTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Print what the stored measurements say."""
    snapshots = sorted(map(read_snapshot, folder.glob("*.json")), key=lambda each: (each.run, each.samples))
    if not snapshots:
        raise typer.BadParameter(f"{folder} holds no measurements; make some with `python -m goca.embedded.measure`")
    answer = analyse(snapshots)
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    console = Console(width=240)
    table = Table("run", "samples", "Frechet distance", "object recall", "denoising error", *snapshots[0].miou)
    for each in snapshots:
        scores = [f"{values[0]:.3f}" for values in each.miou.values()]
        generation = [show(interval(each.frechet), 1), show(interval(each.recall))]
        table.add_row(each.run, str(each.samples), *generation, f"{each.error:.4f}", *scores)
    console.print(table)
    table = Table("method", "slope", "samples partialled out", "slope - vanilla's", "partial - vanilla's", "rho, p, n")
    for name, numbers in answer["methods"].items():
        ranks = "-" if numbers["rho"] is None else f"{numbers['rho']:.2f}, {numbers['p']:.3f}, {numbers['n']}"
        parts = ("slope", "partial", "slope_minus_vanilla", "partial_minus_vanilla")
        table.add_row(name, *(show(numbers[part]) for part in parts), ranks)
    console.print(table)
    console.print(f"{answer['runs']} runs, {answer['snapshots']} snapshots; quality = -log2(Frechet distance)")


if __name__ == "__main__":
    typer.run(main)
