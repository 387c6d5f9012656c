"""The records of one forward pass, in order, to token maps, layer weights and the operator of the refinement.

Cross-attention is aggregated the moment a record arrives. Self-attention is computed in one pass over blocks of rows
that serves the layer's weight and the refinement's mean map alike; in joint attention (one softmax over text and image)
the same pass gives the attention to the text. Layers before the reference layer keep the smaller of: the rows to
compare, or queries and keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from goca.ambient import neutral
from goca.lookup import look_up
from goca.maps.accumulate import ReferenceScores, RefinerBuilder, WeightedMaps
from goca.maps.attention import Attention, self_attention
from goca.maps.heads import HEAD_RULES, HeadAggregator, aggregate_heads
from goca.maps.layers import LAYER_RULES
from goca.maps.plan import plan_rows
from goca.maps.refine import Refiner
from goca.maps.stream import ComparedRowsReader, ScoreReader, TokenMapReader, stream_rows
from goca.types import Grid, JointRecord, LayerRecord

PAIRED_PIXELS = 1024  # coarser grids lose half a point of mIoU and more, see docs/log.md


@dataclass(frozen=True)
class Aggregation:
    """Of one image: token maps in [0, 1] that sum to 1 per pixel, layer weights that sum to 1, and the operator S."""

    token_maps: Float[Tensor, "tokens height width"]
    weights: dict[str, float]
    refiner: Refiner | None


@dataclass(frozen=True)
class _Layer:
    """A layer whose self-attention is needed.

    Attributes:
        attention: of its pixels to each other, until the rows are computed.
        maps: its token maps, if they are there already.
        heads: aggregates them from the same rows, where text and image share a softmax.
        weighed: whether its weight comes from the rows.
        refines: whether the refinement needs them.
    """

    name: str
    grid: Grid
    attention: Attention | None
    maps: Float[Tensor, "pixels tokens"] | None
    heads: HeadAggregator | None
    weighed: bool
    refines: bool


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
        fast: weigh the layers by a sample of the reference grid's rows, see :func:`goca.maps.plan.sample_rows`; on
            grids of :data:`PAIRED_PIXELS` or more, weigh the heads of neighbouring pixels alike and refine over means
            of neighbouring keys.
        reference_grid: the grid of the reference layer, if it is known before its record comes; then less is kept.

    Attributes:
        layers: names of all layers that must be seen.

    Raises:
        ValueError: unknown rule, no layer, or a rule without its reference layer.
    """

    def __init__(
        self,
        head_rule: str,
        layer_rule: str,
        size: Grid,
        cross_layers: Collection[str],
        reference: str | None = None,
        refine_layers: Collection[str] = (),
        refine_order: int = 0,
        fast: bool = False,
        reference_grid: Grid | None = None,
    ) -> None:
        look_up(HEAD_RULES, head_rule, "head rule")
        rule = look_up(LAYER_RULES, layer_rule, "layer rule")
        if not cross_layers:
            raise ValueError("no layer to aggregate; name at least one cross-attention layer")
        if rule is not None and reference is None:
            raise ValueError(f"layer rule {layer_rule!r} needs a reference layer; name one or use 'vanilla'")
        self._head_rule, self._fast = head_rule, fast
        self._size = (size[0], size[1])
        self._cross_layers = frozenset(cross_layers)
        self._reference = None if rule is None else reference
        self._refine_layers = frozenset(refine_layers if refine_order > 0 else ())
        self._refine_order = refine_order
        references = () if self._reference is None else (self._reference,)
        self.layers: frozenset[str] = self._cross_layers.union(self._refine_layers, references)
        self._scores = None if rule is None else ReferenceScores(rule, fast, reference_grid)
        self._seen: set[str] = set()
        self._waiting: list[tuple[_Layer, Tensor | None]] = []  # with the rows to compare, where those are kept
        self._sum = WeightedMaps()
        self._refiner = RefinerBuilder(self._size)

    @neutral()
    def add(self, record: LayerRecord) -> None:
        """Take one block's record; a layer that nothing needs is ignored.

        Raises:
            ValueError: the same layer twice, a grid that does not fit, or a missing self-attention or reference.
        """
        if record.name not in self.layers:
            return
        self._check(record)
        self._seen.add(record.name)
        layer = self._read_cross_attention(record)
        if record.name == self._reference:
            self._set_reference(record)
        if layer is None or layer.attention is None:
            return
        scores = self._scores
        if layer.weighed and scores and not scores.ready and not scores.rows_are_smaller(layer.grid, layer.attention):
            self._waiting.append((layer, None))
        else:
            self._read_self_attention(layer)

    @neutral()
    def finish(self) -> Aggregation:
        """Token maps, layer weights and the refinement.

        Raises:
            ValueError: a layer was not seen, or the maps are not finite.
        """
        missing = sorted(self.layers - self._seen)
        if missing:
            raise ValueError(f"{len(missing)} expected attention layers were not recorded: {', '.join(missing[:5])}")
        maps = self._sum.token_maps(self._size)
        count = len(self._refine_layers)
        return Aggregation(maps, self._sum.shares(), self._refiner.build(count, maps.device) if count else None)

    def _check(self, record: LayerRecord) -> None:
        """Refuse a record that cannot be used."""
        name, (rows, columns), pixels = record.name, record.grid, record.cross_query.shape[1]
        if name in self._seen:
            raise ValueError(f"layer {name!r} was recorded twice; start a new aggregation for every forward pass")
        if pixels != rows * columns:
            raise ValueError(f"layer {name!r} has {pixels} pixels, which is no grid of {rows} x {columns}")
        if name != self._reference or self._scores is None:
            return
        if record.reference is None:
            raise ValueError(f"layer {name!r} is the reference layer, but its record has no reference features")
        if self._scores.grid not in (None, (rows, columns)):
            raise ValueError(f"layer {name!r} has a grid of {(rows, columns)}, but {self._scores.grid} was announced")

    def _read_cross_attention(self, record: LayerRecord) -> _Layer | None:
        """Aggregate the heads, unless the self-attention has the same rows; the layer, if its rows are needed."""
        name, grid = record.name, (record.grid[0], record.grid[1])
        used, refines, pairs = name in self._cross_layers, name in self._refine_layers, self._pairs(grid)
        weighed = used and self._scores is not None
        maps = heads = None
        if used and isinstance(record, JointRecord) and (weighed or (refines and not pairs)):
            heads = HeadAggregator(record, self._head_rule, pairs)
        elif used:
            maps = aggregate_heads(record, self._head_rule, pairs)
            if not weighed:
                self._sum.add(name, grid, maps, maps.new_ones(()))
        if not weighed and not refines:
            return None
        return _Layer(name, grid, self_attention(record), maps, heads, weighed, refines)

    def _set_reference(self, record: LayerRecord) -> None:
        """Take the reference features, and go on with the layers before them."""
        assert self._scores is not None and record.reference is not None
        self._scores.set_reference(record.reference, (record.grid[0], record.grid[1]))
        waiting, self._waiting = self._waiting, []
        for layer, rows in waiting:
            if rows is None:
                self._read_self_attention(layer)
            else:
                assert layer.maps is not None
                score = self._scores.on(layer.grid)
                self._sum.add(layer.name, layer.grid, layer.maps, score.weight(score.partial(rows, 0)))

    def _read_self_attention(self, layer: _Layer) -> None:
        """The layer's weight and its part of the refinement, in one pass where that is exact."""
        if not layer.refines or not self._pairs(layer.grid):
            self._read_rows(layer)
            return
        if layer.weighed:
            self._read_rows(replace(layer, refines=False))
        assert layer.attention is not None
        pairs = replace(layer, attention=layer.attention.paired(), heads=None, weighed=False)
        self._read_rows(pairs, paired=True)

    def _read_rows(self, layer: _Layer, paired: bool = False) -> None:
        """One pass over the rows of a layer, whose keys may stand for two neighbours each."""
        attention, grid, scores = layer.attention, layer.grid, self._scores if layer.weighed else None
        assert attention is not None
        plan = plan_rows(
            grid,
            self._size,
            attention.query.device,
            reference_grid=None if scores is None else scores.grid,
            sampled=self._fast,
            order=self._refine_order if layer.refines else 0,
            paired=paired,
            with_text=layer.heads is not None,
        )
        text = None if layer.heads is None else TokenMapReader(layer.heads)
        score = kept = None
        if scores is not None and plan.compared is not None:
            score = ScoreReader(plan.compared, scores.on(grid)) if scores.ready else None
            kept = None if scores.ready else ComparedRowsReader(plan.compared)
        mean = self._refiner.reader(grid, plan, attention, paired) if layer.refines else None
        readers = [reader for reader in (text, score, kept, mean) if reader is not None]
        stream_rows(attention, plan, readers, with_text=text is not None)
        maps = layer.maps if text is None else text.maps()
        if kept is not None:
            self._waiting.append((replace(layer, attention=None, heads=None, maps=maps), kept.rows()))
        elif maps is not None and (score is not None or text is not None):
            self._sum.add(layer.name, grid, maps, maps.new_ones(()) if score is None else score.weight())

    def _pairs(self, grid: Grid) -> bool:
        """Whether neighbouring pixels of layers on ``grid`` share head weights, and neighbouring keys are refined as
        one."""
        return self._fast and grid[1] % 2 == 0 and grid[0] * grid[1] >= PAIRED_PIXELS
