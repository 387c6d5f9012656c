"""The table of guidance: how good, how faithful to the prompt and how well segmented are the images of each setting?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, Integer

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.embedded.scene_parser import Prediction, SceneParser
from goca.evaluation.generation.statistics import Reference, draw_counts, interval
from goca.evaluation.metrics import count_pixels, intersection_union, mean_iou
from goca.guidance.generate import Generation, Generator
from goca.guidance.table import write_png
from goca.segmenter import Segmenter
from goca.storage.atomic import replace_file
from goca.storage.journal import Entry, RecordFile

BASE = "cfg"
DIGITS = {"frechet": 1, "fid": 2, "clip": 2}
REFERENCE = 2000
BATCH = 20
Counts = Int64[np.ndarray, "sets prompts"]
Values = dict[str, np.ndarray]
Report = Callable[[int, int], None]


@runtime_checkable
class Measures(Protocol):
    """What is measured.

    Attributes:
        columns: title of each measure by its key.
        prompts: what is drawn; prompt i with seed i.
        settings: what the measurements depend on.
    """

    columns: dict[str, str]
    prompts: list[str]
    settings: dict[str, Any]

    def things(self, index: int) -> Sequence[str] | None:
        """What to segment in the image of prompt ``index``; ``None`` for nothing."""

    def measure(self, index: int, result: Generation) -> Entry:
        """What is kept of one image."""

    def values(self, entries: Sequence[Entry], paths: Sequence[Path], counts: Counts) -> Values:
        """Each measure of several sets of images, in which image i occurs ``counts[:, i]`` times."""

    def real(self, counts: Counts) -> Values | None:
        """The same of real images of these prompts, where there are any."""


@dataclass(frozen=True)
class Plan:
    """Settings whose images are compared; ``steps`` of the denoiser, the pipeline's own number by default."""

    guidance: tuple[str, ...]
    scales: tuple[float, ...]
    steps: int | None = None


class SceneMeasures:
    """Measures of embedded models; the prompts are captions of held-out scenes.

    frechet: distance to other scenes in the judge's features, see
        :class:`goca.evaluation.generation.statistics.Reference`.
    object_recall: share of the named things that the judge finds, averaged over the prompts.
    mask_miou: masks that came with the images against the judge's labels, both of the named things alone.

    Args:
        folder: keeps the features of the reference, 2,000 scenes of the series after ``seed``.
        prompts: how many.
        seed: series of scenes.

    Raises:
        ValueError: fewer than two prompts, which have no covariance.
    """

    def __init__(self, folder: Path, prompts: int, seed: int) -> None:
        if prompts < 2:
            raise ValueError(f"a distance between sets of images needs at least 2 prompts, not {prompts}")
        self.columns = {"frechet": "Frechet distance", "object_recall": "object recall", "mask_miou": "mask mIoU"}
        self.folder, self.seed = folder, seed
        self.scenes = [make_scene(seed, index) for index in range(prompts)]
        self.prompts = [scene.caption for scene in self.scenes]
        self.settings: dict[str, Any] = {"prompts": prompts, "seed": seed, "reference": REFERENCE}
        self.judge = SceneParser.load()

    def things(self, index: int) -> Sequence[str]:
        """All that the caption names."""
        return self.scenes[index].classes

    def measure(self, index: int, result: Generation) -> Entry:
        """What the judge sees in an image, and how many pixels have which of its labels and which of the masks'."""
        assert result.segmentation is not None
        named = self.things(index)
        positions = np.array([named.index(name) for name in result.segmentation.classes])
        return judged(self.judge([result.image])[0], named, positions[result.segmentation.labels])

    def real(self, counts: Counts) -> Values:
        """The judge on the scenes that the captions tell of, with their true masks: what can be reached at best."""
        entries = []
        for scene in self.scenes:
            positions = np.zeros(len(CLASS_NAMES), np.int64)
            positions[[CLASS_NAMES.index(name) for name in scene.classes]] = range(len(scene.classes))
            entries.append(judged(self.judge([scene.image])[0], scene.classes, positions[scene.labels]))
        return self.values(entries, (), counts)

    def values(self, entries: Sequence[Entry], paths: Sequence[Path], counts: Counts) -> Values:
        """See the class."""
        shares = np.array([len(each["found"]) / len(each["named"]) for each in entries])
        features = np.array([each["features"] for each in entries])
        return {
            "frechet": self.reference.distances(features, counts),
            "object_recall": counts @ shares / len(shares),
            "mask_miou": mask_miou(entries, counts),
        }

    @cached_property
    def reference(self) -> Reference:
        """Of the real scenes; looking at them takes minutes, once in a folder."""
        path = self.folder / f"reference-{self.seed + 1}-{REFERENCE}.npy"
        if not path.exists():
            features = [
                prediction.features
                for start in range(0, REFERENCE, BATCH)
                for prediction in self.judge(
                    [make_scene(self.seed + 1, index).image for index in range(start, min(start + BATCH, REFERENCE))]
                )
            ]

            def write(scratch: Path) -> None:
                with scratch.open("wb") as stream:
                    np.save(stream, np.stack(features))

            replace_file(path, write)
        return Reference(np.load(path))


def judged(prediction: Prediction, named: Sequence[str], masks: Integer[np.ndarray, "height width"]) -> Entry:
    """One image's entry; ``masks`` are indices into ``named``."""
    pixels = count_pixels(masks, prediction.labels(named), len(named))
    return {
        "named": list(named),
        "found": prediction.found(named),
        "pixels": pixels.tolist(),
        "features": [round(float(each), 5) for each in prediction.features],
    }


def mask_miou(entries: Sequence[Entry], counts: Counts) -> Float64[np.ndarray, " sets"]:
    """mIoU of each set over the classes that occur or are predicted in it."""
    number = len(CLASS_NAMES)
    pixels = np.zeros((len(entries), number, number), np.int64)
    for each, entry in zip(pixels, entries, strict=True):
        places = [CLASS_NAMES.index(name) for name in entry["named"]]
        each[np.ix_(places, places)] = entry["pixels"]
    sets = (counts @ pixels.reshape(len(entries), -1)).reshape(-1, number, number)
    return np.array([mean_iou(intersection_union(each), "standard") for each in sets])


def run(segmenter: Segmenter, measures: Measures, plan: Plan, folder: Path, report: Report) -> dict[str, Any]:
    """Draw what is missing in the folder, measure it, and summarise.

    Every image and its measurements are on the disk before the next one is drawn: ``images/GUIDANCE-SCALE/`` and
    ``records.jsonl``.

    Args:
        report: gets (images done, images in all).

    Returns:
        see :func:`summarise`.

    Raises:
        ValueError: the folder is of a run with other settings; or see :class:`Generator`.
    """
    makers = {
        (kind, scale): Generator(segmenter, kind, scale=scale, steps=plan.steps)
        for scale in plan.scales
        for kind in plan.guidance
    }
    config = {"model": segmenter.model.spec.name, **vars(plan), **measures.settings}
    entries: dict[tuple[str, float, int], Entry] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with RecordFile(folder / "records.jsonl", config, resume=True) as records:
        entries = {(each["guidance"], each["scale"], each["index"]): each for each in records.entries}
        for index, prompt in enumerate(measures.prompts):
            for (kind, scale), make in makers.items():
                if (kind, scale, index) in entries:
                    continue
                report(len(entries), len(makers) * len(measures.prompts))
                result = make(prompt, index, classes=measures.things(index))
                path = image_path(folder, kind, scale, index)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_png(result.image, path, prompt=prompt, seed=str(index))
                entry = {"index": index, "guidance": kind, "scale": scale, **measures.measure(index, result)}
                records.append([entry])
                entries[kind, scale, index] = entry
    return {**config, **summarise(measures, entries, plan, folder)}


def image_path(folder: Path, guidance: str, scale: float, index: int) -> Path:
    """Where an image lies."""
    return folder / "images" / f"{guidance}-{scale:g}" / f"{index:05d}.png"


def summarise(
    measures: Measures, entries: dict[tuple[str, float, int], Entry], plan: Plan, folder: Path
) -> dict[str, Any]:
    """Every measure with a 95% interval from drawing the prompts anew, 1,000 times and alike for all settings.

    Returns:
        ``columns``; ``real``, the measures of real images (or none); ``results``, per setting its measures and under
        ``difference`` those minus plain guidance's at the same scale (none for that itself). An interval is
        ``{"value", "low", "high"}``.
    """
    count = len(measures.prompts)
    counts = draw_counts(count)
    values = {
        (kind, scale): measures.values(
            [entries[kind, scale, index] for index in range(count)],
            [image_path(folder, kind, scale, index) for index in range(count)],
            counts,
        )
        for scale in plan.scales
        for kind in plan.guidance
    }
    results = []
    for (kind, scale), each in values.items():
        base = values.get((BASE, scale)) if kind != BASE else None
        numbers: dict[str, Any] = {key: interval(sets) for key, sets in each.items()}
        numbers["difference"] = base and {key: interval(each[key] - base[key]) for key in each}
        results.append({"guidance": kind, "scale": scale, "images": count, **numbers})
    real_values = measures.real(counts)
    return {
        "columns": measures.columns,
        "real": None if real_values is None else {key: interval(sets) for key, sets in real_values.items()},
        "results": results,
    }


def heading(answer: dict[str, Any], key: str) -> str:
    """A measure's title and what real scenes have."""
    real = answer["real"]
    return answer["columns"][key] + (f"; real scenes {show(real[key], key)}" if real else "")


def rows(answer: dict[str, Any], key: str) -> list[list[str]]:
    """One measure's table as text, its headings first: a line per scale, then differences to plain guidance."""
    numbers = {(each["scale"], each["guidance"]): each for each in answer["results"]}
    kinds, others = answer["guidance"], [kind for kind in answer["guidance"] if kind != BASE]
    if len(others) == len(kinds):
        others = []
    lines = [["scale", *kinds, *(f"{kind} - {BASE}" for kind in others)]]
    for scale in answer["scales"]:
        values = [show(numbers[scale, kind][key], key) for kind in kinds]
        differences = [show(numbers[scale, kind]["difference"][key], key) for kind in others]
        lines.append([f"{scale:g}", *values, *differences])
    return lines


def show(numbers: dict[str, float | None], key: str) -> str:
    """``0.912 [0.880, 0.941]``; zero has no sign."""
    digits = DIGITS.get(key, 3)
    value, *ends = (None if each is None else f"{round(each, digits) + 0.0:.{digits}f}" for each in numbers.values())
    return f"{value} [{', '.join(map(str, ends))}]" if all(ends) else f"{value}"


def markdown(answer: dict[str, Any]) -> str:
    """The tables for documents."""
    parts = []
    for key in answer["columns"]:
        head, *lines = rows(answer, key)
        table = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
        parts.append("\n".join([f"{heading(answer, key)}:", "", *table, ""]))
    return "\n".join(parts)
