"""Statistics of the scaling study, on made-up measurements."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from goca.evaluation.generation.statistics import Reference

PATH = Path(__file__).parents[2] / "studies" / "scaling" / "analyse.py"
spec = importlib.util.spec_from_file_location("scaling_analyse", PATH)
assert spec is not None and spec.loader is not None
analyse = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = analyse
spec.loader.exec_module(analyse)


def snapshot(run: str, samples: int, quality: float, gains: dict[str, float]):
    """A snapshot whose methods gain so much mIoU per unit of quality."""
    sets = np.array([quality, quality + 0.01, quality - 0.01])
    miou = {name: 0.2 + gain * sets for name, gain in gains.items()}
    return analyse.Snapshot(run, samples, 2.0**-sets, np.ones(3), 0.1, miou)


@pytest.mark.parametrize(
    ("order", "rho", "p"),
    [((1, 2, 3), 1.0, 1 / 3), ((1, 2, 3, 4), 1.0, 1 / 12), ((1, 2, 3, 4, 5, 6), 1.0, 2 / 720), ((2, 1, 3), 0.5, 1.0)],
)
def test_permutation_p_is_exact(order: tuple[int, ...], rho: float, p: float) -> None:
    found = analyse.spearman(range(len(order)), order)
    assert found == pytest.approx((rho, p))


def test_slopes_are_found_within_runs_and_differences_are_paired() -> None:
    gains = {"vanilla": 0.02, "paper": 0.08}
    snapshots = [
        snapshot(f"dit-1m-seed{seed}", samples, offset + level, gains)
        for seed, offset in ((0, 0.0), (1, 0.7))
        for samples, level in ((1600, 0.0), (3200, 0.9), (6400, 2.5))
    ]
    answer = analyse.analyse(snapshots)
    assert (answer["runs"], answer["snapshots"]) == (2, 6)
    paper = answer["methods"]["paper"]
    assert paper["slope"]["value"] == pytest.approx(0.08)
    assert paper["partial"]["value"] == pytest.approx(0.08)
    assert paper["slope_minus_vanilla"]["value"] == pytest.approx(0.06)
    assert (paper["rho"], paper["p"], paper["n"]) == (1.0, 1.0, 2)


def test_unfinished_runs_are_left_out_of_the_rank_correlation() -> None:
    gains = {"vanilla": 0.02}
    snapshots = [snapshot("a", samples, samples / 1000, gains) for samples in (1600, 3200)] + [
        snapshot("b", 1600, 1.0, gains)
    ]
    numbers = analyse.analyse(snapshots)["methods"]["vanilla"]
    assert (numbers["rho"], numbers["p"], numbers["n"]) == (None, None, 1)
    assert numbers["slope"] is numbers["partial"] is None


def test_frechet_distance_from_components_is_that_from_features() -> None:
    rng = np.random.default_rng(0)
    reference, features = Reference(rng.normal(size=(80, 40)), components=6), rng.normal(0.5, 1, (30, 40))
    drawn = np.ones((1, 30), np.int64)
    components = (features - reference.mean) @ reference.axes.T
    found = analyse.bootstrap_frechet(components, reference.variances, drawn)
    np.testing.assert_allclose(found, reference.distances(features, drawn), rtol=1e-9)


def test_miou_counts_classes_over_all_scenes(tmp_path: Path) -> None:
    true = [{"cat": 6, "sky": 10}, {"dog": 8, "sky": 8}]
    counts = {"paper": [[[3, 6], [7, 10]], [[8, 8], [8, 8]]]}
    miou = analyse.bootstrap_miou(true, counts)["paper"]
    assert miou[0] == pytest.approx((3 / 9 + 1 + 15 / 21) / 3)
    stored = {
        "configuration": {"rung": "dit-1m", "seed": 0},
        "samples": 1600,
        "denoising": {"errors": {"0.1": [0.1, 0.3]}},
        "generation": {
            "components": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]],
            "reference_variances": [1.0, 1.0],
            "recalled": [1.0, 0.5, 0.0],
        },
        "segmentation": {"true": true, "counts": counts},
    }
    path = tmp_path / "dit-1m-seed0-0001600.json"
    path.write_text(json.dumps(stored))
    found = analyse.read_snapshot(path)
    assert (found.run, found.samples, found.error) == ("dit-1m-seed0", 1600, 0.2)
    assert found.recall[0] == pytest.approx(0.5)
