"""Evaluate presets side by side over the same recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.evaluation.metrics import ConfusionMatrix
from goca.labels import label
from goca.method import Method
from goca.segmenter import BATCH, Segmenter, resolve_method
from goca.sharpen import sharpen


def evaluate_scenes(
    segmenter: Segmenter,
    presets: Sequence[str],
    *,
    limit: int,
    seed: int,
    refine: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Mean intersection over union of each preset on scenes 0 ... ``limit - 1`` of ``seed``.

    The prompt of a scene is its caption, so only classes that are present can be predicted, and every pixel belongs
    to a class: there is no background and no threshold.

    Args:
        refine: ``False`` leaves out the refinement by self-attention and the sharpening.
        progress: called with (scenes done, scenes in all).

    Returns:
        per preset a dictionary with ``preset``, ``miou``, ``pixel_accuracy``, ``per_class``, ``scenes``, ``seed``
        and ``refine``.

    Raises:
        ValueError: an unknown preset, or no scenes asked for.
    """
    methods = [resolve_method(name) for name in presets]
    return evaluate_methods(segmenter, dict(zip(presets, methods, strict=True)), limit, seed, refine, progress)


def evaluate_methods(
    segmenter: Segmenter,
    methods: dict[str, Method],
    limit: int,
    seed: int,
    refine: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """:func:`evaluate_scenes` for any methods, under names of the caller's choice."""
    if limit < 1:
        raise ValueError(f"the number of scenes must be at least 1, not {limit}")
    chosen = [method if refine else replace(method, refine_order=0, sharpen=0) for method in methods.values()]
    matrices = [ConfusionMatrix(len(CLASS_NAMES)) for _ in chosen]
    for start in range(0, limit, BATCH):
        scenes = [make_scene(seed, index) for index in range(start, min(start + BATCH, limit))]
        prompts = [segmenter.prompt(scene.classes) for scene in scenes]
        latents = segmenter.encode([scene.image for scene in scenes])
        maps, _ = segmenter.score(latents, prompts, chosen, seed=0)
        for method, matrix, images in zip(chosen, matrices, maps, strict=True):
            for scene, scores in zip(scenes, images, strict=True):
                lookup = np.asarray([CLASS_NAMES.index(name) for name in scores.classes])
                sharp = sharpen(scores, scene.image, method.sharpen)
                predicted = lookup[np.asarray(label(sharp, scene.labels.shape, None, 0.0))]
                matrix.update(predicted, scene.labels)
        if progress is not None:
            progress(start + len(scenes), limit)
    results = []
    for name, matrix in zip(methods, matrices, strict=True):
        per_class = matrix.iou()
        entry = {
            "preset": name,
            "miou": matrix.miou("standard"),
            "pixel_accuracy": float(matrix.counts.trace() / matrix.counts.sum()),
        }
        shares = {cls: float(iou) for cls, iou in zip(CLASS_NAMES, per_class, strict=True) if not np.isnan(iou)}
        results.append({**entry, "per_class": shares, "scenes": limit, "seed": seed, "refine": refine})
    return results
