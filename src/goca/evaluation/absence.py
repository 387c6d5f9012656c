"""How well absent classes are told from present ones, and what dropping them is worth, where too many are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from goca.absence import LEAST_GAIN, drop, gains
from goca.datasets.base import Dataset
from goca.evaluation.generation.statistics import draw_counts, interval
from goca.evaluation.named import NamedImage, each_image, prompt_for
from goca.result import Segmentation
from goca.segmenter import Segmenter

EXTRAS = (1, 2, 3, 4)
TRIED = (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02)


@dataclass(frozen=True, eq=False)
class Names:
    """Names that were looked for in some images.

    Attributes:
        image: number of each name's image.
        gain: see :func:`goca.absence.gains`.
        attention: area of the name's mask times its mean margin, where all names are looked for: what attention alone
            tells.
        present: whether the class is in the image.
        iou: of every image, the mean IoU of its classes: with all names, without the dropped ones, with the true names.
        failures: (image, reason).
    """

    image: Int64[np.ndarray, " names"]
    gain: Float[np.ndarray, " names"]
    attention: Float[np.ndarray, " names"]
    present: Bool[np.ndarray, " names"]
    iou: Float[np.ndarray, "images 3"]
    failures: tuple[tuple[str, str], ...]


def measure_names(
    segmenter: Segmenter,
    dataset: Dataset,
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Names:
    """Ask for 1 to 4 classes too many in every image, in turn.

    Args:
        seed: of the choice of names.

    Raises:
        ValueError: all images fail.
    """
    rows, ious, failures = list[tuple[float, ...]](), list[list[float]](), list[tuple[str, str]]()
    for number, image in enumerate(each_image(dataset, count, EXTRAS, seed)):
        progress(number, count)
        if isinstance(image, tuple):
            failures.append(image)
            continue
        try:
            found, own = measure_image(segmenter, image, dataset.has_background)
        except ValueError as error:
            failures.append((image.sample.name, str(error)))
            continue
        rows += [(len(ious), *each) for each in found]
        ious.append(own)
    progress(count, count)
    if not ious:
        raise ValueError(f"no image could be segmented: {failures[0][0]}: {failures[0][1]}")
    image_of, gain, attention, present = np.array(rows, dtype=np.float64).T
    return Names(image_of.astype(np.int64), gain, attention, present.astype(bool), np.array(ious), tuple(failures))


def measure_image(
    segmenter: Segmenter, image: NamedImage, has_background: bool
) -> tuple[list[tuple[float, float, float]], list[float]]:
    """Gain, attention and presence of every name; mean IoU with all names, the kept ones, the true ones."""
    prompt, method = prompt_for(segmenter, image, has_background), segmenter.resolve()
    found = gains(segmenter, image.sample.image, prompt)
    kept = drop(segmenter, prompt, found).prompt
    true = drop(segmenter, prompt, {name: 1.0 if name in image.present else -1.0 for name in image.names}).prompt
    pictures = [image.sample.image] * 3
    results = [segmenter.segment_batch(pictures[:1], [each], method)[0] for each in (prompt, kept, true)]
    rows = [(found[name], evidence(results[0], name), float(name in image.present)) for name in image.names]
    return rows, [float(np.mean([image.iou(each, name) for name in image.present])) for each in results]


def evidence(result: Segmentation, name: str) -> float:
    """Share of the image that a mask has, times its mean margin."""
    return result.areas[name] * result.raw_confidence[name]


def assess_names(names: Names) -> dict[str, Any]:
    """Precision and recall of dropping, at :data:`goca.absence.LEAST_GAIN` and others, with 95% intervals over the
    images.

    Precision is the share of the dropped names that are absent, recall the share of the absent ones that are dropped.
    """
    draws = draw_counts(len(names.iou)).astype(np.float64)
    ious = draws @ names.iou / draws.sum(axis=1, keepdims=True)
    return {
        "images": len(names.iou),
        "present": int(names.present.sum()),
        "absent": int((~names.present).sum()),
        "least_gain": LEAST_GAIN,
        "thresholds": [dropping(names, least, draws) for least in sorted({*TRIED, LEAST_GAIN})],
        "separation": {"gain": separation(names.gain, names), "attention": separation(names.attention, names)},
        "iou": {
            **{key: interval(ious[:, column]) for column, key in enumerate(("all", "kept", "true"))},
            "kept - all": interval(ious[:, 1] - ious[:, 0]),
        },
        "failures": [{"image": name, "reason": reason} for name, reason in names.failures],
    }


def dropping(names: Names, least: float, draws: Float[np.ndarray, "sets images"]) -> dict[str, Any]:
    """What dropping the names with less gain comes to, none being kept as the likeliest."""
    weights, dropped, absent = draws[:, names.image], names.gain < least, ~names.present
    both, all_dropped, all_absent = (weights @ each.astype(np.float64) for each in (dropped & absent, dropped, absent))
    shares = {"precision": both / all_dropped.clip(1), "recall": both / all_absent.clip(1)}
    return {"gain": least, "dropped": int(dropped.sum()), **{key: interval(each) for key, each in shares.items()}}


def separation(scores: Float[np.ndarray, " names"], names: Names) -> float | None:
    """How often a present name scores more than an absent one (area under the ROC curve); a tie counts half."""
    there, absent = scores[names.present], scores[~names.present]
    if not len(there) or not len(absent):
        return None
    return float(((there[:, None] > absent).mean() + (there[:, None] >= absent).mean()) / 2)
