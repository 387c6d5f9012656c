"""Images of an evaluation as its report shows them: truth and methods beside each other, in the same colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from goca.classes import VOID
from goca.datasets.base import Dataset, Sample
from goca.evaluation.runner import Predicted, predict
from goca.evaluation.summary import image_miou
from goca.evaluation.task import ImageResult, Task
from goca.explorer import payload, script_json
from goca.explorer.packing import reduce_maps
from goca.render import data_uri, enlarged, hex_colour, paint, run_colours
from goca.result import Segmentation
from goca.segmenter import Segmenter

COUNT = 4  # best and as many worst
PICTURE_SIDE, EXPLORER_SIDE, PICTURE_QUALITY = 240, 480, 85
MAP_BYTES, TRUTH_SIDE = 2**15, 64
TRUTH = "truth"


@dataclass(frozen=True)
class Example:
    """One image as shown.

    Attributes:
        name: of the image.
        pictures: caption, mean IoU in percent (none for image and truth) and address of each.
        legend: (name, colour) of its classes.
        explorer: JSON of what the explorer shows.
    """

    name: str
    pictures: tuple[tuple[str, float | None, str], ...]
    legend: tuple[tuple[str, str], ...]
    explorer: str


def choose_examples(
    images: Sequence[ImageResult], task: Task, result: Mapping[str, Any]
) -> tuple[list[ImageResult], list[ImageResult]]:
    """Images with the highest and the lowest mean IoU of one method, none twice."""
    step = step_of(task, result)
    good = [image for image in images if image.error is None]
    ranked = sorted(good, key=lambda image: -image_miou(image, result["preset"], step, task))
    best = ranked[: min(COUNT, (len(ranked) + 1) // 2)]
    return best, ranked[len(best) :][-COUNT:][::-1]


def step_of(task: Task, result: Mapping[str, Any]) -> int:
    """The number of the threshold that a method's result was taken at."""
    thresholds = task.protocol.thresholds_for(task.methods[result["preset"]])
    return thresholds.index(result["threshold"]) if thresholds else 0


def show_examples(
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task,
    groups: Sequence[Sequence[ImageResult]],
    results: Sequence[Mapping[str, Any]],
) -> list[list[Example]]:
    """The images, segmented once more by every method; a class has one colour in all of them."""
    steps = {result["preset"]: step_of(task, result) for result in results}
    found = [[(image, _segment(segmenter, dataset[image.index], task, steps)) for image in group] for group in groups]
    colours = run_colours(each.classes for group in found for _, shown in group for each in shown.values())
    return [
        [
            _example(image, {name: each.with_colours(colours) for name, each in shown.items()}, task, steps)
            for image, shown in group
        ]
        for group in found
    ]


def _segment(segmenter: Segmenter, sample: Sample, task: Task, steps: Mapping[str, int]) -> dict[str, Segmentation]:
    """The truth, then the result of every method."""
    shown = {TRUTH: true_result(sample.image, task.target(sample), task)}
    for name, predicted in predict(segmenter, sample, task).items():
        shown[name] = as_result(sample.image, predicted, steps[name], task)
    return shown


def true_result(image: Image.Image, target: UInt8[np.ndarray, "height width"], task: Task) -> Segmentation:
    """The true labels as a result, whose maps are 1 where a class is."""
    order = _in_order(np.unique(target[target != VOID]).tolist() or [0], task)
    maps = np.stack([target == index for index in order]).astype(np.float32)
    return Segmentation(image, _names(order, task), _relabel(target, order), reduce_maps(maps, TRUTH_SIDE))


def as_result(image: Image.Image, predicted: Predicted, step: int, task: Task) -> Segmentation:
    """The labels at one threshold and their maps; a class without a map, such as one that the published rules choose
    where nothing was found, gets one of zeros."""
    labels, scores = predicted.decision.labels(step), predicted.scores
    order = _in_order([*predicted.indices, *np.unique(labels).tolist()], task)
    maps = {} if scores is None else dict(zip(predicted.indices, scores.maps.float().cpu().numpy(), strict=True))
    if scores is not None and task.protocol.has_background:
        maps[0] = scores.background.float().cpu().numpy()
    blank = np.zeros_like(next(iter(maps.values()), np.zeros((1, 1), dtype=np.float32)))
    stacked = np.stack([maps.get(index, blank) for index in order]).clip(0, 1)
    return Segmentation(image, _names(order, task), _relabel(labels, order), stacked)


def _in_order(indices: Sequence[int], task: Task) -> list[int]:
    """Each class once, a background last."""
    return sorted(set(indices), key=lambda index: (not task.classes[index], index))


def _names(order: Sequence[int], task: Task) -> tuple[str, ...]:
    return tuple(task.class_names[index] for index in order)


def _relabel(labels: UInt8[np.ndarray, "height width"], order: Sequence[int]) -> Integer[np.ndarray, "height width"]:
    places = np.full(VOID + 1, VOID, dtype=np.int64)
    places[list(order)] = np.arange(len(order))
    return places[labels]


def _example(image: ImageResult, shown: Mapping[str, Segmentation], task: Task, steps: Mapping[str, int]) -> Example:
    scores = {name: image_miou(image, name, step, task) for name, step in steps.items()}
    pictures: list[tuple[str, float | None, str]] = [("image", None, _address(enlarged(shown[TRUTH].image)))]
    for name, result in shown.items():
        picture = _address(paint(result.image, result.labels, result.colours))
        pictures.append((name, 100 * scores[name] if name in scores else None, picture))
    colours = {name: colour for each in shown.values() for name, colour in zip(each.classes, each.colours, strict=True)}
    seen = {name for each in shown.values() for name, share in each.areas.items() if share}
    legend = tuple((name, hex_colour(colour)) for name, colour in colours.items() if name in seen)
    best = max(scores, key=lambda name: scores[name])
    data = payload({best: shown[best], **shown}, title=image.name, image_side=EXPLORER_SIDE, map_bytes=MAP_BYTES)
    return Example(image.name, tuple(pictures), legend, script_json(data))


def _address(image: Image.Image) -> str:
    return data_uri(image, PICTURE_SIDE, PICTURE_QUALITY)
