"""The evaluation as a library call, and results of earlier versions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import toy

import goca
from goca import Segmenter
from goca.datasets.base import Dataset
from goca.evaluation.experiment import Experiment
from goca.evaluation.runner import evaluate_indices
from goca.evaluation.task import ImageResult, Task
from goca.method import find_methods

FORMAT_1 = Path(__file__).parent / "journals" / "format1.jsonl"  # written by goca 0.1.0 before methods were renamed


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr("goca.evaluation.experiment.open_dataset", lambda key, **options: toy.Toy(5))
    return Experiment.open("voc", protocol="paper", seed=3)


def test_work_may_be_done_elsewhere(experiment: Experiment) -> None:
    segmenter, variants = toy.segmenter(), find_methods(["vanilla", "paper"])
    seen: list[range] = []

    def compute(dataset: Dataset, task: Task, groups: list[range]) -> Iterator[list[ImageResult]]:
        for group in reversed(groups):
            seen.append(group)
            yield evaluate_indices(segmenter, dataset, group, task)

    steps: list[tuple[int, int]] = []
    expected = experiment.run(segmenter, variants, batch=2)
    found = experiment.run(
        segmenter, variants, batch=2, compute=compute, progress=lambda done, total: steps.append((done, total))
    )
    assert found == expected and seen == [range(4, 5), range(2, 4), range(0, 2)]
    assert steps == [(0, 5), (1, 5), (3, 5), (5, 5)]
    assert found["settings"]["seed"] == 3 and found["settings"]["dataset options"] == {"split": "train"}


def test_the_ablation_adds_one_part_after_the_other(experiment: Experiment) -> None:
    answer = experiment.ablate(toy.segmenter())
    assert [result["preset"] for result in answer["results"]] == ["none", "head", "layer", "rescale", "all"]


def test_results_of_an_earlier_version_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goca, "__version__", "0.1.0")
    old = FORMAT_1.read_bytes()
    shutil.copy(FORMAT_1, tmp_path / "records.jsonl")
    assert b'"layer_set":"every"' in old and b'"sharpen":10' in old
    experiment = Experiment.open("scenes", seed=5, limit=2)
    segmenter = Segmenter.from_pretrained("scenes-dit", device="cpu")
    methods = find_methods(["vanilla", "paper", "daam", "vanilla+pamr"])
    for name in ("vanilla", "vanilla+pamr"):  # as they were then
        methods[name] = replace(methods[name], rescale="per-token renorm", layer_set="selected")

    def compute(dataset: Dataset, task: Task, groups: list[range]) -> list[list[ImageResult]]:
        assert groups == []
        return []

    answer = experiment.run(segmenter, methods, batch=1, out=tmp_path, resume=True, compute=compute)
    assert (tmp_path / "records.jsonl").read_bytes() == old
    assert [result["preset"] for result in answer["results"]] == list(methods)
    assert answer["results"][1]["miou"] == pytest.approx(0.7701479720103823, abs=1e-9)
    with pytest.raises(ValueError, match=r"methods daam layer_set was \"all\" and is now \"selected\""):
        changed = {**methods, "daam": replace(methods["daam"], layer_set="selected")}
        experiment.run(segmenter, changed, batch=1, out=tmp_path, resume=True)
