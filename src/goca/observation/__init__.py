"""The paper's analysis: what every token, head and layer contributes to a segmentation.

:meth:`goca.Segmenter.explain` gives an :class:`Explanation`, the one data structure of all that can be looked at: the
maps of all stages (layers, heads, aggregated, rescaled, refined, labels) with the weights of layers and heads, in
memory, as JSON and as ``.npz``. Layers are read off the same records by the functions of :mod:`goca.maps`; the later
stages are those of the segmentation itself.
"""

from goca.observation.build import build_explanation
from goca.observation.explanation import STAGES, Explanation
from goca.observation.layers import LayerMaps, LayerObserver, layer_index
from goca.observation.pixels import PixelScores, check_pixel
from goca.observation.records import RecordFile, record_file
from goca.observation.tokens import ROLES, Token, text_positions

__all__ = [
    "ROLES",
    "STAGES",
    "Explanation",
    "LayerMaps",
    "LayerObserver",
    "PixelScores",
    "RecordFile",
    "Token",
    "build_explanation",
    "check_pixel",
    "layer_index",
    "record_file",
    "text_positions",
]
