"""The records of one forward pass, in order, to token maps: nothing of heads x pixels x pixels ever exists.

Cross-attention is aggregated the moment a record arrives. Self-attention is consumed in one pass over blocks of rows
that serves the layer's weight and the refinement's mean map alike, and the text's columns too where one softmax runs
over text and image and the heads are averaged. Until the reference layer has come, what is smaller waits for it: the
rows that will be compared, or the queries and keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.maps.attention import Attention, self_attention
from goca.maps.heads import aggregate_heads, averages, head_rule
from goca.maps.layers import Comparison, Picker, affinity, compared_rows, layer_rule, sample_rows
from goca.maps.refine import FusedMap, MeanMap, Refiner
from goca.maps.resize import nearest_sources, resize_maps
from goca.types import Grid, JointRecord, LayerRecord

FUSED_COST = 0.85  # measured: one row through the fused kernel, over forming that row of the head-mean map
MEAN_MAP_ENTRIES = 2**26  # 256 MiB; a larger mean map is never formed
PAIRED_PIXELS = 1024  # coarser grids lose half a point of mIoU and more, see docs/log.md


@dataclass(frozen=True)
class Aggregation:
    """Of one image: token maps in [0, 1] that sum to 1 per pixel, layer weights that sum to 1, and the operator S."""

    token_maps: Float[Tensor, "tokens height width"]
    weights: dict[str, float]
    refiner: Refiner | None


@dataclass(frozen=True)
class _Plan:
    """Which rows of a layer's self-attention are computed, and who takes which. Shared by layers of one grid."""

    rows: Int64[Tensor, " rows"] | None  # None: all rows, in order
    count: int
    compared: Picker | None
    output_rows: Int64[Tensor, " output_rows"] | None  # rows that the refinement needs
    accumulated: Picker | None  # None with output_rows: refine through the fused kernel


@lru_cache(maxsize=256)
def _plan_rows(
    grid: Grid,
    size: Grid,
    sources: tuple[Grid, bool] | None,
    order: int,
    paired: bool,
    with_text: bool,
    device: torch.device,
) -> _Plan:
    """Rows to compute on ``grid``: all of them where the text's columns are read from the same rows.

    The refinement accumulates a mean map when the rows that only it would need cost less than ``order`` passes through
    the fused kernel, extra rows <= order * FUSED_COST * output rows, and the map is not too large. Otherwise it keeps
    queries and keys for that kernel.

    Args:
        size: of the output.
        sources: reference grid, and whether only its sampled rows are compared; ``None`` compares nothing.
        order: how often the layer refines; 0 for a layer that does not.
        paired: whether a key stands for two neighbours.
        with_text: whether the text's columns are read.
    """
    pixels = grid[0] * grid[1]
    compared = torch.empty(0, dtype=torch.int64) if sources is None else compared_rows(grid, *sources)[0]
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
    return _Plan(
        rows=None if len(rows) == pixels else rows.to(device),
        count=len(rows),
        compared=None if sources is None else Picker(rows, compared, device),
        output_rows=output_rows,
        accumulated=Picker(rows, output_rows, device) if accumulate and output_rows is not None else None,
    )


class MapAggregator:
    """Collects the records of one image: ``add`` each once, in forward order, then ``finish``.

    Args:
        head_rule: key of :data:`goca.maps.heads.HEAD_RULES`.
        layer_rule: key of :data:`goca.maps.layers.LAYER_RULES`.
        size: output grid (height, width).
        cross_layers: names of the layers whose cross-attention is used.
        reference: name of the layer whose record carries the reference features; not needed by layer rule "vanilla".
        refine_layers: names of the layers whose self-attention refines; ignored at order 0.
        refine_order: how often the refinement will be applied; decides how it is computed.
        fast: weigh the layers by a sample of the reference grid's rows, see
            :func:`goca.maps.layers.sample_rows`; on grids of :data:`PAIRED_PIXELS` or more, weigh the heads of
            neighbouring pixels alike and refine over means of neighbouring keys.
        reference_grid: the grid of the reference layer, if it is known before its record comes; then less has to wait.

    Raises:
        ValueError: unknown rule, no layer, or a rule without its reference layer.
    """

    def __init__(
        self,
        head_rule_name: str,
        layer_rule_name: str,
        size: Grid,
        cross_layers: Collection[str],
        reference: str | None = None,
        refine_layers: Collection[str] = (),
        refine_order: int = 0,
        fast: bool = False,
        reference_grid: Grid | None = None,
    ) -> None:
        head_rule(head_rule_name)
        self.head_rule = head_rule_name
        self.layer_rule = layer_rule(layer_rule_name)
        if not cross_layers:
            raise ValueError("no layer to aggregate; name at least one cross-attention layer")
        if self.layer_rule is not None and reference is None:
            raise ValueError(f"layer rule {layer_rule_name!r} needs a reference layer; name one or use 'vanilla'")
        self.size = (size[0], size[1])
        self.cross_layers = frozenset(cross_layers)
        self.reference = None if self.layer_rule is None else reference
        self.refine_layers = frozenset(refine_layers if refine_order > 0 else ())
        self.refine_order = refine_order
        self.fast = fast
        self._seen: set[str] = set()
        self._reference_grid = reference_grid
        self._pending: list[tuple[str, Grid, Attention]] = []
        self._unweighed: list[tuple[str, Grid, Tensor]] = []
        self._maps: dict[str, tuple[Grid, Tensor]] = {}
        self._sums: dict[Grid, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self._affinity: Tensor | None = None
        self._comparisons: dict[Grid, Comparison] = {}
        self._means: dict[Grid, Tensor] = {}
        self._fused: list[FusedMap] = []

    @property
    def layers(self) -> frozenset[str]:
        """Names of all layers that must be seen."""
        return (
            self.cross_layers | self.refine_layers | ({self.reference} if self.reference is not None else frozenset())
        )

    @torch.no_grad()
    def add(self, record: LayerRecord) -> None:
        """Take one block's record; a layer that nothing needs is ignored.

        Raises:
            ValueError: the same layer twice, a grid that does not fit, or a missing self-attention or reference.
        """
        name, grid = record.name, (record.grid[0], record.grid[1])
        if name not in self.layers:
            return
        if name in self._seen:
            raise ValueError(f"layer {name!r} was recorded twice; start a new aggregation for every forward pass")
        if record.cross_query.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"layer {name!r} has {record.cross_query.shape[1]} pixels, which is no grid of {grid[0]} x {grid[1]}"
            )
        self._seen.add(name)
        compared = self.layer_rule is not None and name in self.cross_layers
        together = compared and isinstance(record, JointRecord) and averages(record, self.head_rule)
        if name in self.cross_layers and not together:
            self._maps[name] = (grid, aggregate_heads(record, self.head_rule, self._pairs(grid)))
            if not compared:
                self._weigh(name, self._maps[name][1].new_ones(()))
        if name == self.reference:
            self._meet(record, grid)
        if compared or name in self.refine_layers:
            attention = self_attention(record)
            if compared and self._must_wait(grid, attention):
                self._pending.append((name, grid, attention))
            else:
                self._consume(name, grid, attention)

    @torch.no_grad()
    def finish(self) -> Aggregation:
        """Sum over layers, clamp at 0, divide by the sum over all tokens.

        Raises:
            ValueError: a layer was not seen, or the maps are not finite.
        """
        missing = sorted(self.layers - self._seen)
        if missing:
            raise ValueError(f"{len(missing)} expected attention layers were not recorded: {', '.join(missing[:5])}")
        total = torch.zeros(())
        for grid, maps in self._sums.items():
            total = total.to(maps.device) + resize_maps(maps.T.unflatten(1, grid), self.size)
        total = total.clamp_min(0)
        token_maps = total / total.sum(dim=0).clamp_min(torch.finfo(total.dtype).tiny)
        if not torch.isfinite(token_maps.sum()):
            raise ValueError("the attention maps are not finite; run the model in float32 or bfloat16")
        weights = torch.stack(list(self._weights.values()))
        shares = dict(zip(self._weights, (weights / weights.sum()).tolist(), strict=True))
        return Aggregation(token_maps, shares, self._refiner(token_maps.device))

    def _meet(self, record: LayerRecord, grid: Grid) -> None:
        """Take the reference features, and go on with all that waited for them."""
        if record.reference is None:
            raise ValueError(f"layer {record.name!r} is the reference layer, but its record has no reference features")
        if self._reference_grid not in (None, grid):
            raise ValueError(f"layer {record.name!r} has a grid of {grid}, but {self._reference_grid} was announced")
        self._reference_grid = grid
        assert self.layer_rule is not None
        features = record.reference[:, : self.layer_rule.channels]
        self._affinity = affinity(features, sample_rows(grid) if self.fast else None)
        for name, its_grid, rows in self._unweighed:
            self._judge(name, self._comparison(its_grid).partial(rows, 0))
        self._unweighed.clear()
        for waiting in self._pending:
            self._consume(*waiting)
        self._pending.clear()

    def _must_wait(self, grid: Grid, attention: Attention) -> bool:
        """Whether a layer's queries and keys are kept until the reference layer comes, because it is not known which
        rows will be compared, or because those are larger."""
        if self._affinity is not None:
            return False
        if self._reference_grid is None:
            return True
        rows = len(compared_rows(grid, self._reference_grid, self.fast)[0])
        return rows * grid[0] * grid[1] > attention.query.numel() + attention.key.numel()

    def _judge(self, name: str, sums: Float[Tensor, " sums"]) -> None:
        """Weigh a layer by what the comparison of all its rows gave."""
        assert self.layer_rule is not None
        self._weigh(name, self.layer_rule.weight(sums).clamp_min(0))

    def _weigh(self, name: str, weight: Float[Tensor, ""]) -> None:
        """Add a layer's map, times its weight, to the sum of its grid."""
        self._weights[name] = weight
        grid, maps = self._maps.pop(name)
        if grid in self._sums:
            self._sums[grid].addcmul_(maps, weight)
        else:
            self._sums[grid] = maps * weight

    def _consume(self, name: str, grid: Grid, attention: Attention) -> None:
        """Use a layer's self-attention for its weight and for the refinement, in one pass where that is exact."""
        compared, refines = self.layer_rule is not None and name in self.cross_layers, name in self.refine_layers
        if refines and self._pairs(grid):
            if compared:
                self._pass(name, grid, attention, compared=True, refines=False)
            self._pass(name, grid, attention.paired(), compared=False, refines=True)
        else:
            self._pass(name, grid, attention, compared, refines)

    def _pairs(self, grid: Grid) -> bool:
        """Whether neighbouring pixels of layers on ``grid`` share head weights, and neighbouring keys are refined as
        one."""
        return self.fast and grid[1] % 2 == 0 and grid[0] * grid[1] >= PAIRED_PIXELS

    def _pass(self, name: str, grid: Grid, attention: Attention, compared: bool, refines: bool) -> None:
        """One pass over a layer's self-attention rows."""
        with_text = compared and name not in self._maps
        tokens = attention.keys.start if with_text else 0
        device = attention.query.device
        sources = None
        if compared:
            assert self._reference_grid is not None
            sources = (self._reference_grid, self.fast)
        order, paired = self.refine_order if refines else 0, refines and self._pairs(grid)
        plan = _plan_rows(grid, self.size, sources, order, paired, with_text, device)
        attention = replace(attention, key=attention.key.float(), keys=slice(None) if with_text else attention.keys)
        if plan.output_rows is not None and plan.accumulated is None:
            rows = plan.output_rows.to(device)
            kept = attention.query if len(rows) == grid[0] * grid[1] else attention.query[:, rows]
            self._fused.append(FusedMap(grid, self._picked(grid, device), paired, replace(attention, query=kept)))
        sums: Tensor | None = None
        maps, waiting = [], []
        for first, last in attention.blocks(plan.count):
            block = attention.mean_rows(slice(first, last) if plan.rows is None else plan.rows[first:last])
            if with_text:
                maps.append(block[:, :tokens].clone())
                block = block[:, tokens:]
            if plan.compared is not None:
                at, chosen = plan.compared.pick(block, first)
                if self._affinity is None:
                    waiting.append(chosen)
                else:
                    partial = self._comparison(grid).partial(chosen, at)
                    sums = partial if sums is None else sums + partial
            if plan.accumulated is not None:
                at, chosen = plan.accumulated.pick(block, first)
                if grid not in self._means:
                    self._means[grid] = block.new_zeros(plan.accumulated.count, block.shape[1])
                self._means[grid][at : at + len(chosen)] += chosen
        if with_text:
            self._maps[name] = (grid, torch.cat(maps))
        if waiting:
            self._unweighed.append((name, grid, torch.cat(waiting)))
        if sums is not None:
            self._judge(name, sums)

    def _comparison(self, grid: Grid) -> Comparison:
        if grid not in self._comparisons:
            assert self.layer_rule is not None and self._affinity is not None and self._reference_grid is not None
            self._comparisons[grid] = Comparison(self.layer_rule, self._affinity, self._reference_grid, grid, self.fast)
        return self._comparisons[grid]

    def _picked(self, grid: Grid, device: torch.device) -> Int64[Tensor, " pixels"] | None:
        """For each output pixel, the index of its row among the rows that the refinement keeps of ``grid``."""
        if grid == self.size:
            return None
        return nearest_sources(grid, self.size)[1].to(device)

    def _refiner(self, device: torch.device) -> Refiner | None:
        if not self.refine_layers:
            return None
        means = [
            MeanMap(grid, self._picked(grid, device), self._pairs(grid), matrix) for grid, matrix in self._means.items()
        ]
        return Refiner(self.size, len(self.refine_layers), (*means, *self._fused))
