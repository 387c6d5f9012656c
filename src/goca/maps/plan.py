"""Which rows of a layer's self-attention are computed, and who reads which of them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.ambient import neutral
from goca.maps.resize import nearest_rows, nearest_sources
from goca.types import Grid

FUSED_COST = 0.85  # measured: one row through the fused kernel, over forming that row of the head-mean map
MEAN_MAP_ENTRIES = 2**26  # 256 MiB; a larger mean map is never formed


@lru_cache(maxsize=256)
@neutral()
def sample_rows(grid: Grid) -> Int64[Tensor, " rows"]:
    """Pixels at regular distances: every fourth of every fourth row, about 8 x 8 of them on grids beyond 32 x 32."""
    pixels = torch.arange(grid[0] * grid[1]).view(grid)
    down, right = (max(4, side // 8) for side in grid)
    return pixels[min(down // 2, grid[0] - 1) :: down, min(right // 2, grid[1] - 1) :: right].flatten()


@lru_cache(maxsize=256)
@neutral()
def compared_rows(
    grid: Grid, reference_grid: Grid, sampled: bool = False
) -> tuple[Int64[Tensor, " sources"], Int64[Tensor, " rows"]]:
    """The rows of S on ``grid`` that are compared with R, or with its :func:`sample_rows`, in ascending order, and the
    index of each row of R's partner among them; with nearest downsampling they are fewer than all."""
    if not sampled:
        return nearest_sources(grid, reference_grid)
    return torch.unique(nearest_rows(grid, reference_grid)[sample_rows(reference_grid)], return_inverse=True)


class RowSelector:
    """Finds, in blocks of a sorted list of rows, the part of another sorted list that it contains."""

    def __init__(self, rows: Int64[Tensor, " rows"], wanted: Int64[Tensor, " wanted"], device: torch.device) -> None:
        self.count, self.all = len(wanted), len(rows) == len(wanted)
        if not self.all:
            at = torch.searchsorted(rows, wanted)
            self.positions, self.at = at.tolist(), at.to(device)

    def select(self, block: Float[Tensor, "rows pixels"], start: int) -> tuple[int, Float[Tensor, "selected pixels"]]:
        """Index of the first wanted row in ``block`` (computed rows from ``start`` on), and all wanted rows of it."""
        if self.all:
            return start, block
        first, last = bisect_left(self.positions, start), bisect_left(self.positions, start + len(block))
        return first, block[self.at[first:last] - start]


@dataclass(frozen=True)
class RowPlan:
    """The rows of one pass over a layer's self-attention; layers of one grid share it.

    Attributes:
        rows: which are computed; ``None`` for all, in order.
        count: how many.
        compared: those that the layer's weight reads, if any.
        output_rows: those that the refinement needs, if any.
        accumulated: the same, where a mean map is accumulated from them; without it, the refinement goes through the
            fused kernel.
    """

    rows: Int64[Tensor, " rows"] | None
    count: int
    compared: RowSelector | None
    output_rows: Int64[Tensor, " output_rows"] | None
    accumulated: RowSelector | None


@lru_cache(maxsize=256)
@neutral()
def plan_rows(
    grid: Grid,
    size: Grid,
    device: torch.device,
    *,
    reference_grid: Grid | None = None,
    sampled: bool = False,
    order: int = 0,
    paired: bool = False,
    with_text: bool = False,
) -> RowPlan:
    """The rows to compute on ``grid``.

    The refinement accumulates a mean map when the rows that only it needs cost less than ``order`` passes through the
    fused kernel, extra rows <= order * FUSED_COST * output rows, and the map is not too large. Otherwise it keeps
    queries and keys for that kernel.

    Args:
        size: of the output.
        reference_grid: grid of the reference features; ``None`` compares nothing.
        sampled: whether only the :func:`sample_rows` of the reference grid are compared.
        order: how often the layer refines; 0 for a layer that does not.
        paired: whether a key stands for two neighbours.
        with_text: whether the attention to the text is read from the same rows, and so from all of them.
    """
    pixels = grid[0] * grid[1]
    compared = torch.empty(0, dtype=torch.int64)
    if reference_grid is not None:
        compared = compared_rows(grid, reference_grid, sampled)[0]
    rows = torch.arange(pixels) if with_text else compared
    output_rows, accumulate = None, False
    if order:
        output_rows = nearest_sources(grid, size)[0]
        union = torch.unique(torch.cat([rows, output_rows]))
        cheaper = len(union) - len(rows) <= order * FUSED_COST * len(output_rows)
        keys = pixels // 2 if paired else pixels
        accumulate = cheaper and len(output_rows) * keys <= MEAN_MAP_ENTRIES
        if accumulate:
            rows = union
    return RowPlan(
        rows=None if len(rows) == pixels else rows.to(device),
        count=len(rows),
        compared=None if reference_grid is None else RowSelector(rows, compared, device),
        output_rows=output_rows,
        accumulated=RowSelector(rows, output_rows, device) if accumulate and output_rows is not None else None,
    )
