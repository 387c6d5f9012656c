"""How far colours stay apart under usual and colour-blind vision after they were blended with a picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
GROUNDS = {"dark": 32, "grey": 128, "light": 224}  # a picture's grey below the colours
# Ottosson 2020, OKLab: linear sRGB to the cones' responses, and their cube roots to lightness, green-red, blue-yellow.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours: Float[np.ndarray, "*colours 3"], vision: str = "usual") -> Float[np.ndarray, "*colours 3"]:
    """OKLab coordinates, times 100, of sRGB colours in [0, 255] as a kind of :data:`VISIONS` sees them; white has
    lightness 100, and a difference of about 2 can just be seen."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISIONS[vision].T, 0, 1)
    return 100 * np.cbrt(seen @ _CONES.T) @ _OKLAB.T


def blended(
    colours: Integer[np.ndarray, "colours 3"], vision: str, opacity: float
) -> Float[np.ndarray, "grounds colours 3"]:
    """OKLab coordinates of colours blended over each of :data:`GROUNDS`."""
    grounds = np.array(list(GROUNDS.values()))[:, None, None]
    return oklab(opacity * colours[None] + (1 - opacity) * grounds, vision)


def separation(colours: Integer[np.ndarray, "colours 3"], vision: str, opacity: float) -> float:
    """Smallest OKLab distance, times 100, between any two of at least two colours, over the worst of the grounds."""
    points = blended(colours, vision, opacity)
    distances = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    first, second = np.triu_indices(len(colours), k=1)
    return float(distances[:, first, second].min())
