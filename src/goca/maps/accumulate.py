"""What is added up over the layers of one image: weighted token maps, and the operator of the refinement."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.maps.attention import Attention
from goca.maps.layers import LayerRule, LayerScore, affinity
from goca.maps.plan import RowPlan, compared_rows, sample_rows
from goca.maps.refine import FusedMap, MeanMap, Refiner
from goca.maps.resize import nearest_sources, resize_maps
from goca.maps.stream import MeanMapReader
from goca.types import Grid


class WeightedMaps:
    """Sum over layers of weight times token maps; one sum for each grid, so that each is resized once."""

    def __init__(self) -> None:
        self._sums: dict[Grid, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, name: str, grid: Grid, maps: Float[Tensor, "pixels tokens"], weight: Float[Tensor, ""]) -> None:
        """Add one layer."""
        self._weights[name] = weight
        if grid in self._sums:
            self._sums[grid].addcmul_(maps, weight)
        else:
            self._sums[grid] = maps * weight

    def token_maps(self, size: Grid) -> Float[Tensor, "tokens height width"]:
        """Equation 8: the sum over the layers, clamped at 0, divided by its sum over the tokens.

        Raises:
            ValueError: the maps are not finite.
        """
        total = torch.zeros((), dtype=torch.float32)
        for grid, maps in self._sums.items():
            total = total.to(maps.device) + resize_maps(maps.T.unflatten(1, grid), size)
        total = total.clamp_min(0)
        maps = total / total.sum(dim=0).clamp_min(torch.finfo(total.dtype).tiny)
        if not torch.isfinite(maps.sum()):
            raise ValueError("the attention maps are not finite; run the model in float32 or bfloat16")
        return maps

    def shares(self) -> dict[str, float]:
        """Weights of the layers by name, divided by their sum."""
        weights = torch.stack(list(self._weights.values()))
        return dict(zip(self._weights, (weights / weights.sum()).tolist(), strict=True))


class ReferenceScores:
    """Equations 5 and 7: the reference affinity, once its layer has come, and its form on every grid.

    Args:
        sampled: compare only the rows :func:`goca.maps.plan.sample_rows`.
        grid: of the reference layer, if it is known before its record comes.
    """

    def __init__(self, rule: LayerRule, sampled: bool, grid: Grid | None) -> None:
        self._rule, self._sampled = rule, sampled
        self.grid = grid
        self._affinity: Tensor | None = None
        self._scores: dict[Grid, LayerScore] = {}

    @property
    def ready(self) -> bool:
        """Whether the reference features are there."""
        return self._affinity is not None

    def set_reference(self, features: Float[Tensor, "pixels channels"], grid: Grid) -> None:
        """Take the features of the reference layer."""
        self.grid = grid
        self._affinity = affinity(features[:, : self._rule.channels], sample_rows(grid) if self._sampled else None)

    def on(self, grid: Grid) -> LayerScore:
        """What compares layers of this grid."""
        if grid not in self._scores:
            assert self._affinity is not None and self.grid is not None
            self._scores[grid] = LayerScore(self._rule, self._affinity, self.grid, grid, self._sampled)
        return self._scores[grid]

    def rows_are_smaller(self, grid: Grid, attention: Attention) -> bool:
        """Whether the rows of a layer that will be compared are known, and no larger than its queries and keys."""
        if self.grid is None:
            return False
        rows = len(compared_rows(grid, self.grid, self._sampled)[0])
        return rows * grid[0] * grid[1] <= attention.query.numel() + attention.key.numel()


class RefinerBuilder:
    """The parts of the operator S (equation 12) that refines maps of ``size``."""

    def __init__(self, size: Grid) -> None:
        self._size = size
        self._sums: dict[Grid, tuple[bool, Tensor]] = {}
        self._fused: list[FusedMap] = []

    def reader(self, grid: Grid, plan: RowPlan, attention: Attention, paired: bool) -> MeanMapReader | None:
        """What adds the rows of a layer to the sum of its grid; ``None`` where its queries and keys are kept instead.

        Args:
            paired: whether a key stands for two neighbours.
        """
        query = attention.query
        if plan.accumulated is None:
            assert plan.output_rows is not None
            rows = plan.output_rows.to(query.device)
            kept = query if len(rows) == query.shape[1] else query[:, rows]
            attention = replace(attention, query=kept, key=attention.key.float())
            self._fused.append(FusedMap(grid, self._picked(grid, query.device), paired, attention))
            return None
        first = grid not in self._sums
        if first:
            keys = grid[0] * grid[1] // (2 if paired else 1)
            total = torch.empty(plan.accumulated.count, keys, dtype=torch.float32, device=query.device)
            self._sums[grid] = (paired, total)
        return MeanMapReader(plan.accumulated, self._sums[grid][1], first)

    def build(self, layers: int, device: torch.device) -> Refiner:
        """The mean over so many layers."""
        means = [MeanMap(grid, self._picked(grid, device), *each) for grid, each in self._sums.items()]
        return Refiner(self._size, layers, (*means, *self._fused))

    def _picked(self, grid: Grid, device: torch.device) -> Int64[Tensor, " pixels"] | None:
        """For each output pixel, the index of its row among the rows that are kept of ``grid``."""
        return None if grid == self._size else nearest_sources(grid, self._size)[1].to(device)
