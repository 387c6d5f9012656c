"""Several views of one image, at other timesteps or mirrored: their maps are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from goca.types import ScoreMaps


def flip(maps: ScoreMaps) -> ScoreMaps:
    """Mirror maps left to right."""
    return replace(maps, maps=maps.maps.flip(-1), background=maps.background.flip(-1))


def mean_maps(views: Sequence[ScoreMaps]) -> ScoreMaps:
    """Average the maps of several views of the same image."""
    if len(views) == 1:
        return views[0]
    maps = torch.stack([each.maps for each in views]).mean(dim=0)
    return ScoreMaps(views[0].classes, maps, torch.stack([each.background for each in views]).mean(dim=0))
