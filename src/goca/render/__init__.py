"""Pictures of labels and scores: colours, overlays with names and a colour key, heat maps, codes of masks."""

from __future__ import annotations

from goca.render.codes import area_shares, data_uri, indexed_image, run_lengths
from goca.render.colours import (
    BACKGROUND_COLOUR,
    MAX_CLASSES,
    Colour,
    add_colours,
    class_colours,
    hex_colour,
    palette,
    run_colours,
)
from goca.render.heat import heat_map
from goca.render.key import legend
from goca.render.overlay import OVERLAY_SIDE, enlarged, overlay, paint

__all__ = [
    "BACKGROUND_COLOUR",
    "MAX_CLASSES",
    "OVERLAY_SIDE",
    "Colour",
    "add_colours",
    "area_shares",
    "class_colours",
    "data_uri",
    "enlarged",
    "heat_map",
    "hex_colour",
    "indexed_image",
    "legend",
    "overlay",
    "paint",
    "palette",
    "run_colours",
    "run_lengths",
]
