"""Edge-aware upsampling: maps at the size of the image, with their steps where the image's colours change.

Around every cell of the maps' grid the map is fitted by a linear function of the colour, as in the guided filter (He,
Sun and Tang, "Guided Image Filtering", ECCV 2010; from a coarse grid as in He and Sun, "Fast Guided Filter",
arXiv 1505.00996). With m the map, I the image, J the image's means over the cells, and up bilinear upsampling::

    a_k = (cov(J) + eps)^-1 cov(J, m)   in the 3 x 3 cells around cell k
    q   = up(m) + up(mean of a over 3 x 3 cells) . (I - up(J))

The guided filter itself, up(a) . I + up(b) with b the fit's constant, smooths the map by the 5 x 5 cells that the fits
share, and thin things vanish. Here up(m) stays, and the image adds what is finer than a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from goca.ambient import neutral
from goca.maps.background import assign_labels
from goca.maps.resize import resize_maps
from goca.types import Grid, ScoreMaps

BILINEAR = "bilinear"
EPSILON = 1e-2  # of colours in [0, 1]
BLOCK_SCORES = 2**22  # 16 MiB of upsampled scores at a time


@neutral()
def edge_labels(
    scores: ScoreMaps, image: Image.Image, rule: str | None, threshold: float = 0.0
) -> Int64[Tensor, "height width"]:
    """As :func:`goca.maps.background.assign_labels` at the image's size, of maps upsampled along its edges: a block of
    rows at a time, so that the memory is that of the labels.

    Args:
        image: the RGB picture that was segmented.
        rule: for the background's score, a key of :data:`goca.maps.background.BACKGROUND_RULES`.
    """
    if scores.background.shape == (image.height, image.width):
        return bilinear_labels(scores, image, rule, threshold)
    labels = torch.empty((image.height, image.width), dtype=torch.int64, device=scores.maps.device)
    top = 0
    for block in upsampled_rows(scores, image):
        rows = len(block.background)
        labels[top : top + rows] = assign_labels(block, (rows, image.width), rule, threshold)
        top += rows
    return labels


def upsampled_rows(scores: ScoreMaps, image: Image.Image) -> Iterator[ScoreMaps]:
    """The maps at the image's size, in blocks of rows from top to bottom."""
    maps = torch.cat([scores.maps, scores.background[None]]).float()
    rows, columns = maps.shape[1:]
    means = _colours(image.resize((columns, rows), Image.Resampling.BOX)).to(maps.device)
    slopes = colour_slopes(maps, means)
    step = max(1, BLOCK_SCORES // (len(maps) * image.width))
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        part = _colours(image.crop((0, top, image.width, bottom))).to(maps.device)
        size = (image.height, image.width)
        finer = part - resize_rows(means, size, top, bottom)
        block = resize_rows(maps, size, top, bottom)
        for channel in range(3):
            block.addcmul_(resize_rows(slopes[:, channel], size, top, bottom), finer[channel])
        yield replace(scores, maps=block[:-1], background=block[-1])


def colour_slopes(
    maps: Float[Tensor, "maps height width"], colours: Float[Tensor, "3 height width"]
) -> Float[Tensor, "maps 3 height width"]:
    """a, the change of every map with the colour around every cell, averaged over 3 x 3 cells."""
    mean = _box(colours)
    products = _box((colours[:, None] * colours).flatten(0, 1)).unflatten(0, (3, 3))
    covariance = products - mean[:, None] * mean
    ridge = EPSILON * torch.eye(3, dtype=torch.float32, device=maps.device)
    with_map = torch.stack([_box(maps * colour) for colour in colours], dim=1) - _box(maps)[:, None] * mean
    found = torch.linalg.solve(covariance.permute(2, 3, 0, 1) + ridge, with_map.permute(2, 3, 1, 0))
    return _box(found.permute(3, 2, 0, 1).flatten(0, 1)).unflatten(0, (len(maps), 3))


def resize_rows(
    maps: Float[Tensor, "maps height width"], size: Grid, top: int, bottom: int
) -> Float[Tensor, "maps rows new_width"]:
    """Rows ``top`` to ``bottom`` of the maps resized bilinearly to ``size``, without the others."""
    places = torch.arange(top, bottom, dtype=torch.float32, device=maps.device) + 0.5
    places = (places * (maps.shape[1] / size[0]) - 0.5).clamp(0, maps.shape[1] - 1)
    above = places.floor().long()
    below = (above + 1).clamp_max(maps.shape[1] - 1)
    rows = torch.lerp(maps[:, above], maps[:, below], (places - above)[:, None])
    return resize_maps(rows, (bottom - top, size[1]))


def _box(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """Means over 3 x 3 cells, of which fewer are there at the border."""
    return F.avg_pool2d(maps[None], 3, stride=1, padding=1, count_include_pad=False)[0]


def _colours(image: Image.Image) -> Float[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255


def bilinear_labels(
    scores: ScoreMaps, image: Image.Image, rule: str | None, threshold: float = 0.0
) -> Int64[Tensor, "height width"]:
    """:func:`goca.maps.background.assign_labels` at the image's size."""
    return assign_labels(scores, (image.height, image.width), rule, threshold)


UPSAMPLING: dict[str, Callable[[ScoreMaps, Image.Image, str | None, float], Tensor]] = {
    BILINEAR: bilinear_labels,
    "edges": edge_labels,
}
"""From maps, the image, the background's rule and its threshold to labels, by name."""
