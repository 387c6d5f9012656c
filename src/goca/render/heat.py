"""Scores as colours over a picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image

# From no evidence to full evidence: dark blue, purple, orange, light yellow; lightness grows all the way.
_STOPS = np.array([[8, 8, 40], [86, 15, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)


def heat_map(image: Image.Image, scores: Float[np.ndarray, "height width"], opacity: float = 0.75) -> Image.Image:
    """Scores in [0, 1] as colours from dark blue to light yellow over the grey image."""
    position = np.clip(scores, 0, 1) * (len(_STOPS) - 1)
    stops = np.arange(len(_STOPS))
    colours = np.stack([np.interp(position, stops, _STOPS[:, c]) for c in range(3)], axis=-1)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours.round().astype(np.uint8)), opacity)
