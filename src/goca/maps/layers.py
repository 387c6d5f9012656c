"""Auto aggregation over layers: how well each layer's self-attention agrees with the affinity of the reference
features.

R = softmax(F F^T / sqrt(D)) on the reference grid; S_l is the head-mean self-attention of layer l, resized to that
grid as U S V^T (queries nearest, keys bilinear). The paper's weight is <R, U S V^T> = <U^T R V, S>: R is transformed
once per resolution, S is never resized, and rows of S that nearest resizing skips are never computed. The other two
published rules are not linear in S; they resize its rows block by block.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.maps.resize import nearest_rows, nearest_sources, resize_keys, unresize_keys
from goca.types import Grid

Partial = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LayerRule:
    """A comparison of R with S that adds up over blocks of rows.

    ``partial`` maps two equal blocks of rows to a vector of sums, ``weight`` the added vector to the layer's weight. A
    ``linear`` rule may compare the transformed R with S as it is; the others compare R with the resized S. R is made of
    the first ``channels`` channels of the reference features, by default of all.
    """

    linear: bool
    partial: Partial
    weight: Callable[[Tensor], Tensor]
    channels: int | None = None


def _inner_product(reference: Tensor, rows: Tensor) -> Float[Tensor, " 1"]:
    return torch.dot(reference.flatten(), rows.flatten())[None]


def _row_distances(reference: Tensor, rows: Tensor) -> Float[Tensor, " 1"]:
    return (reference - rows).norm(dim=-1).sum()[None]


def _overlap(reference: Tensor, rows: Tensor) -> Float[Tensor, " 2"]:
    return torch.stack([torch.minimum(reference, rows).sum(), torch.maximum(reference, rows).sum()])


LAYER_RULES: dict[str, LayerRule | None] = {
    "dot-product similarity": LayerRule(True, _inner_product, lambda sums: sums[0]),
    # The published evaluation code indexes F twice, so that one channel is left of it; paper and golden files take all.
    "dot-product similarity of channel 0": LayerRule(True, _inner_product, lambda sums: sums[0], channels=1),
    "mse": LayerRule(False, _row_distances, lambda sums: 1 / sums[0].clamp_min(1e-12)),
    "iou-like": LayerRule(False, _overlap, lambda sums: sums[0] / (sums[1] + 1e-4)),
    "vanilla": None,
}


def layer_rule(name: str) -> LayerRule | None:
    """The rule of that name; ``None`` gives all layers the same weight.

    Raises:
        ValueError: unknown name.
    """
    if name not in LAYER_RULES:
        raise ValueError(f"unknown layer rule {name!r}; choose one of: {', '.join(LAYER_RULES)}")
    return LAYER_RULES[name]


def affinity(
    features: Float[Tensor, "pixels channels"], rows: Int64[Tensor, " rows"] | None = None
) -> Float[Tensor, "rows pixels"]:
    """R = softmax(F F^T / sqrt(D)) in float32, or only some of its rows; each sums to 1."""
    features = features.float()
    queries = features if rows is None else features[rows]
    return torch.softmax((queries * features.shape[-1] ** -0.5) @ features.T, dim=-1)


@lru_cache(maxsize=256)
def sample_rows(grid: Grid) -> Int64[Tensor, " rows"]:
    """Pixels at regular distances: every fourth of every fourth row, about 8 x 8 of them on grids beyond 32 x 32."""
    pixels = torch.arange(grid[0] * grid[1]).view(grid)
    down, right = (max(4, side // 8) for side in grid)
    return pixels[min(down // 2, grid[0] - 1) :: down, min(right // 2, grid[1] - 1) :: right].flatten()


@lru_cache(maxsize=256)
def compared_rows(
    grid: Grid, reference_grid: Grid, sampled: bool = False
) -> tuple[Int64[Tensor, " sources"], Int64[Tensor, " rows"]]:
    """The rows of S on ``grid`` that are compared with R, or with its :func:`sample_rows`, in ascending order, and the
    index of each row of R's partner among them; with nearest downsampling they are fewer than all."""
    if not sampled:
        return nearest_sources(grid, reference_grid)
    return torch.unique(nearest_rows(grid, reference_grid)[sample_rows(reference_grid)], return_inverse=True)


class Comparison:
    """Compares R with the self-attention of layers on one grid, a block of rows (see :func:`compared_rows`) at a time.

    Args:
        reference: R, or its :func:`sample_rows`.
    """

    def __init__(
        self,
        rule: LayerRule,
        reference: Float[Tensor, "rows pixels"],
        reference_grid: Grid,
        grid: Grid,
        sampled: bool = False,
    ) -> None:
        self.rule, self.reference_grid, self.grid = rule, reference_grid, grid
        sources, inverse = compared_rows(grid, reference_grid, sampled)
        inverse = inverse.to(reference.device)
        if grid == reference_grid:
            self.reference = reference
        elif rule.linear:
            folded = reference.new_zeros(len(sources), reference.shape[1]).index_add_(0, inverse, reference)
            self.reference = unresize_keys(folded, grid, reference_grid)
        else:
            order = torch.argsort(inverse, stable=True)
            counts = torch.bincount(inverse, minlength=len(sources))
            self.reference, self.owner = reference[order], inverse[order]
            self.offsets = [0, *counts.cumsum(0).tolist()]

    def partial(self, rows: Float[Tensor, "rows pixels"], first: int) -> Float[Tensor, " sums"]:
        """The rule's sums for ``rows`` of S, which are those that take part, from the ``first`` on."""
        last = first + len(rows)
        if self.rule.linear or self.grid == self.reference_grid:
            return self.rule.partial(self.reference[first:last], rows)
        span = slice(self.offsets[first], self.offsets[last])
        resized = resize_keys(rows, self.grid, self.reference_grid)
        return self.rule.partial(self.reference[span], resized[self.owner[span] - first])


class Picker:
    """Finds, in blocks of a sorted list of rows, the part of another sorted list that it contains."""

    def __init__(self, rows: Int64[Tensor, " rows"], wanted: Int64[Tensor, " wanted"], device: torch.device) -> None:
        self.count, self.all = len(wanted), len(rows) == len(wanted)
        if not self.all:
            at = torch.searchsorted(rows, wanted)
            self.positions, self.at = at.tolist(), at.to(device)

    def pick(self, block: Float[Tensor, "rows pixels"], start: int) -> tuple[int, Float[Tensor, "picked pixels"]]:
        """Index of the first wanted row in ``block`` (computed rows from ``start`` on), and all wanted rows of it."""
        if self.all:
            return start, block
        first, last = bisect_left(self.positions, start), bisect_left(self.positions, start + len(block))
        return first, block[self.at[first:last] - start]
