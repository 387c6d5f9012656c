"""The outlines of regions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8


def outlines(labels: UInt8[np.ndarray, "height width"], width: int) -> Bool[np.ndarray, "height width"]:
    """The pixels that have another label exactly ``width`` pixels above, below, left or right of them: a line of that
    width on both sides of every border between regions, not along the picture's edge."""
    edge = np.zeros(labels.shape, dtype=bool)
    for before, after in (
        (np.s_[width:, :], np.s_[:-width, :]),
        (np.s_[:, width:], np.s_[:, :-width]),
    ):
        differs = labels[before] != labels[after]
        edge[before] |= differs
        edge[after] |= differs
    return edge
