"""Maps of a video's frames, averaged over time so that labels flicker less."""

from __future__ import annotations

from goca.ranges import check_number
from goca.types import ScoreMaps

MOST_WEIGHT = 0.99


class TemporalAverage:
    """Exponential moving average of maps: ``weight`` of the average so far, ``1 - weight`` of the new maps.

    It starts anew where the classes or the grid change.

    Args:
        weight: from 0, each frame on its own, to 0.99.

    Raises:
        ValueError: a weight outside.
    """

    def __init__(self, weight: float) -> None:
        self.weight = check_number("temporal", weight, 0.0, MOST_WEIGHT)
        self._last: ScoreMaps | None = None

    def __call__(self, maps: ScoreMaps) -> ScoreMaps:
        """The average with the maps of the next frame."""
        last = self._last
        if last is not None and last.classes == maps.classes and last.maps.shape == maps.maps.shape:
            mean = last.maps.lerp(maps.maps, 1 - self.weight)
            background = last.background.lerp(maps.background, 1 - self.weight)
            maps = ScoreMaps(maps.classes, mean, background)
        self._last = maps
        return maps
