"""Auto aggregation of attention over heads and layers, streamed."""

from goca.maps.aggregate import Aggregation, MapAggregator
from goca.maps.heads import HEAD_RULES, aggregate_heads
from goca.maps.layers import LAYER_RULES

__all__ = ["HEAD_RULES", "LAYER_RULES", "Aggregation", "MapAggregator", "aggregate_heads"]
