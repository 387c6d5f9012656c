"""How good the confidences of masks are: the IoU of masks by their score, and the error of the score as an IoU.

For example::

    dataset, count = open_images("scenes", limit=200, seed=4)
    masks = measure_masks(Segmenter.from_pretrained("scenes-dit"), dataset, count)
    calibration = fit(masks, segmenter)
    print(assess(masks, calibration)["after"]["error"])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from goca.calibration import RAW_MEANING, Calibration, fit_logistic, plain
from goca.datasets.base import Dataset
from goca.evaluation.generation.statistics import draw_counts, interval
from goca.evaluation.named import NamedImage, each_image, prompt_for
from goca.result import Segmentation
from goca.segmenter import Segmenter

MOST_EXTRA = 4
BINS = 10
IGNORED_BELOW = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of some images, and what is right about their pixels.

    Attributes:
        image: number of each mask's image.
        raw: raw score of each mask, see :attr:`goca.Segmentation.raw_confidence`.
        iou: with the true mask; 0 for a class that is not in the image.
        pixels: of every image, for every margin of :data:`IGNORED_BELOW`: pixels with at least that, and how many of
            these have the right class.
        all_pixels: of every image, those that count.
        failures: (image, reason).
        extra: most names too many.
        data: what was measured on, for people.
    """

    image: Int64[np.ndarray, " masks"]
    raw: Float[np.ndarray, " masks"]
    iou: Float[np.ndarray, " masks"]
    pixels: Int64[np.ndarray, "images margins 2"]
    all_pixels: Int64[np.ndarray, " images"]
    failures: tuple[tuple[str, str], ...]
    extra: int
    data: str


def measure_masks(
    segmenter: Segmenter,
    dataset: Dataset,
    count: int,
    *,
    extra: int = MOST_EXTRA,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Masks:
    """Segment images by the segmenter's method, and compare every mask with the truth.

    A user's list of classes also names what is not in an image. So image i is given the names of its classes and i mod
    (``extra`` + 1) others.

    Args:
        seed: of the choice of names.

    Raises:
        ValueError: all images fail.
    """
    method, failures = segmenter.resolve(), list[tuple[str, str]]()
    found, pixels, totals = list[tuple[int, float, float]](), list[np.ndarray](), list[int]()
    for number, image in enumerate(each_image(dataset, count, range(extra + 1), seed)):
        progress(number, count)
        if isinstance(image, tuple):
            failures.append(image)
            continue
        try:
            prompt = prompt_for(segmenter, image, dataset.has_background)
            (result,) = segmenter.segment_batch([image.sample.image], [prompt], method)
        except ValueError as error:
            failures.append((image.sample.name, str(error)))
            continue
        found += [(len(pixels), result.raw_confidence[each.name], image.iou(result, each.name)) for each in result]
        pixels.append(count_pixels(result, image))
        totals.append(int(np.count_nonzero(image.counted)))
    progress(count, count)
    if not pixels:
        raise ValueError(f"no image could be segmented: {failures[0][0]}: {failures[0][1]}")
    columns = np.array(found, dtype=np.float64).reshape(-1, 3).T
    image_of = columns[0].astype(np.int64)
    data = f"{len(pixels)} images of {dataset.key} with 0 to {extra} names too many"
    return Masks(image_of, columns[1], columns[2], np.stack(pixels), np.array(totals), tuple(failures), extra, data)


def count_pixels(result: Segmentation, image: NamedImage) -> Int64[np.ndarray, "margins 2"]:
    """Pixels with at least each margin of :data:`IGNORED_BELOW`, and those of them that have the right class."""
    index = {name: number for number, name in enumerate(image.classes)}
    own = np.array([index.get(name, -1) for name in result.classes])[result.labels]
    kept = [(result.margin >= least) & image.counted for least in IGNORED_BELOW]
    right = own == image.sample.labels
    return np.array([[np.count_nonzero(each), np.count_nonzero(each & right)] for each in kept], dtype=np.int64)


def fit(masks: Masks, segmenter: Segmenter, series: str = "") -> Calibration:
    """The curve that these masks give.

    Args:
        series: further words about the data.

    Raises:
        ValueError: no masks.
    """
    slope, offset = fit_logistic(masks.raw, masks.iou)
    return Calibration(slope, offset, plain(segmenter.calibrated_settings), f"{masks.data}{series}")


def assess(masks: Masks, calibration: Calibration | None) -> dict[str, Any]:
    """How far the scores are from the IoU, before and after the calibration, with 95% intervals over the images.

    The error is the expected calibration error: masks in bins of equal number, by score; the mean over the masks of
    |mean score - mean IoU| of their bin.
    """
    draws = draw_counts(len(masks.pixels)).astype(np.float64)
    bins = bin_masks(masks.raw)
    answer: dict[str, Any] = {
        "images": len(masks.pixels),
        "extra": masks.extra,
        "masks": len(masks.raw),
        "mean_iou": float(masks.iou.mean()) if len(masks.iou) else None,
        "rank_correlation": rank_correlation(masks.raw, masks.iou),
        "before": {"meaning": RAW_MEANING, "error": error(masks.raw, masks, bins, draws)},
        "after": None,
        "ignore": ignoring(masks, draws),
        "failures": [{"image": name, "reason": reason} for name, reason in masks.failures],
    }
    curve = None if calibration is None else np.array([calibration(raw) for raw in masks.raw.tolist()])
    if calibration is not None and curve is not None:
        answer["after"] = {"meaning": calibration.meaning, "error": error(curve, masks, bins, draws)}
    answer["bins"] = [describe_bin(masks, bins == number, curve) for number in range(int(bins.max(initial=-1)) + 1)]
    return answer


def bin_masks(scores: Float[np.ndarray, " masks"]) -> Int64[np.ndarray, " masks"]:
    """The number of each mask's bin; equal scores may fall in two."""
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return order * min(BINS, len(scores)) // max(1, len(scores))


def error(
    scores: Float[np.ndarray, " masks"],
    masks: Masks,
    bins: Int64[np.ndarray, " masks"],
    draws: Float[np.ndarray, "sets images"],
) -> dict[str, float | None]:
    """Expected calibration error, with its interval."""
    member = (bins[:, None] == np.arange(BINS)).astype(np.float64)
    weights = draws[:, masks.image]
    gaps = np.abs((weights * (scores - masks.iou)) @ member).sum(axis=1) / weights.sum(axis=1).clip(1)
    found = interval(gaps)
    return {**found, "low": None if found["low"] is None else max(0.0, found["low"])}


def ignoring(masks: Masks, draws: Float[np.ndarray, "sets images"]) -> list[dict[str, Any]]:
    """For each least margin: the share of the pixels that are kept, and of these the share that is right."""
    rows = []
    for number, least in enumerate(IGNORED_BELOW):
        kept, right = (draws @ masks.pixels[:, number, part] for part in (0, 1))
        shares = {"kept": kept / draws.dot(masks.all_pixels).clip(1), "right": right / kept.clip(1)}
        rows.append({"below": least, **{key: interval(values) for key, values in shares.items()}})
    return rows


def describe_bin(
    masks: Masks, inside: np.ndarray, curve: Float[np.ndarray, " masks"] | None
) -> dict[str, float | int | None]:
    """Means over the masks of one bin."""
    calibrated = None if curve is None else float(curve[inside].mean())
    means = {"raw": float(masks.raw[inside].mean()), "calibrated": calibrated, "iou": float(masks.iou[inside].mean())}
    return {"masks": int(inside.sum()), **means}


def rank_correlation(first: Float[np.ndarray, " masks"], second: Float[np.ndarray, " masks"]) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank. ``None`` where one of the two is constant."""
    ranks = [np.unique(each, return_inverse=True, return_counts=True)[1:] for each in (first, second)]
    means = [(np.cumsum(counts) - (counts - 1) / 2)[inverse] for inverse, counts in ranks]
    if min(len(set(each.tolist())) for each in means) < 2:
        return None
    return float(np.corrcoef(means[0], means[1])[0, 1])
