"""From score maps to one label per pixel of the image: equation 13 of docs/method.md (GoCA, arXiv 2603.06178).

With b the background's map and the threshold theta::

    label(p) = background  if rule(b(p), theta) > max_k C_k(p),  else argmax_k C_k(p)   (13)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.ambient import neutral
from goca.lookup import look_up
from goca.maps.resize import resize_maps
from goca.types import Grid, ScoreMaps

CHUNK_SCORES = 2**24  # 64 MiB of resized scores at a time

BackgroundRule = Callable[[Tensor, float], Tensor]

BACKGROUND_RULES: dict[str, BackgroundRule] = {
    "offset": lambda background, threshold: background + threshold,
    "max": lambda background, threshold: background.clamp_min(threshold),
    "exact": lambda background, threshold: background,
    "avg": lambda background, threshold: (background + threshold) / 2,
    "vanilla": torch.full_like,
}
"""Rules by their published names: (background map, threshold) to the background's score, which may not fall as the
threshold rises. Rules of your own may be added."""


@neutral()
def assign_labels(
    scores: ScoreMaps, size: Grid, rule: str | None, threshold: float = 0.0
) -> Int64[Tensor, "height width"]:
    """Equation 13: index of the best class at every pixel of an image of ``size`` (height, width); the background is
    ``len(classes)``.

    Maps are resized bilinearly, a few at a time; the background's score is made of its resized map by ``rule``.
    Without a rule every pixel gets a class. The first class wins a tie.

    Args:
        rule: key of :data:`BACKGROUND_RULES`.

    Raises:
        ValueError: unknown rule, or nothing to choose from.
    """
    score = None if rule is None else look_up(BACKGROUND_RULES, rule, "background rule")
    if len(scores.maps) == 0 and score is None:
        raise ValueError("no class and no background to choose from; give at least one class")
    best, labels = best_class(scores, size)
    if score is not None:
        background = score(resize_maps(scores.background[None], size)[0], threshold)
        labels[background > best] = len(scores.maps)
    return labels


def best_class(scores: ScoreMaps, size: Grid) -> tuple[Float[Tensor, "height width"], Int64[Tensor, "height width"]]:
    """The highest score at every pixel of an image of ``size``, and the index of its class; the first wins a tie.

    Where there is no class the score is minus infinity.
    """
    size = (size[0], size[1])
    step = max(1, CHUNK_SCORES // (size[0] * size[1]))
    best: Float[Tensor, "height width"] = torch.full(
        size, -torch.inf, dtype=torch.float32, device=scores.background.device
    )
    labels = torch.zeros(size, dtype=torch.int64, device=scores.background.device)
    for first in range(0, len(scores.maps), step):
        values, indices = resize_maps(scores.maps[first : first + step], size).max(dim=0)
        better = values > best
        labels = torch.where(better, indices + first, labels)
        best = torch.where(better, values, best)
    return best, labels
