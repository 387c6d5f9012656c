"""Auto aggregation of attention over heads and layers, streamed."""

from goca.aggregation.heads import HEAD_RULES, aggregate_heads
from goca.aggregation.layers import LAYER_RULES
from goca.aggregation.stream import Aggregation, MapAggregator

__all__ = ["HEAD_RULES", "LAYER_RULES", "Aggregation", "MapAggregator", "aggregate_heads"]
