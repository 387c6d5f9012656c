"""Refinement of class maps by the self-attention of a few layers: equation 12 of docs/method.md (GoCA, arXiv
2603.06178)::

    C <- S C,  S = mean_l U S_l V^T                                             (12)

with S_l of equation 6, resized to the output grid by U and V (see :mod:`goca.maps.resize`); the rows of S are not
renormalised. Naive: form S and multiply. Here S is an operator: maps are resized to a layer's grid by V^T, multiplied
there, and the rows picked by U. A layer is applied either through a head-mean map that was accumulated while streaming,
or through the fused attention kernel with the maps as values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from goca.ambient import neutral
from goca.maps.attention import Attention
from goca.maps.rescale import min_max
from goca.maps.resize import unresize_keys
from goca.types import Grid, ScoreMaps


@dataclass(frozen=True)
class MeanMap:
    """Sum over layers of one grid of head-mean self-attention, only the rows that the output needs.

    Attributes:
        picked: row of ``matrix`` for each output pixel; ``None`` for one each.
        paired: whether a key stands for two neighbours in a row of ``grid``.
    """

    grid: Grid
    picked: Int64[Tensor, " pixels"] | None
    paired: bool
    matrix: Float[Tensor, "rows grid_pixels"]

    def apply(self, maps: Float[Tensor, "maps grid_pixels"]) -> Float[Tensor, "maps rows"]:
        """maps S^T."""
        return maps @ self.matrix.T


@dataclass(frozen=True)
class FusedMap:
    """One layer's self-attention, never formed: only the queries that the output needs. As :class:`MeanMap`."""

    grid: Grid
    picked: Int64[Tensor, " pixels"] | None
    paired: bool
    attention: Attention

    def apply(self, maps: Float[Tensor, "maps grid_pixels"]) -> Float[Tensor, "maps rows"]:
        """maps S^T, with groups of at most head-width maps as the values of the fused kernel."""
        query, key = self.attention.query.float(), self.attention.key.float()
        heads, all_keys, dim = key.shape
        parts = []
        for group in maps.split(dim):
            values = maps.new_zeros(all_keys, dim)
            values[self.attention.keys, : len(group)] = group.T
            mixed = F.scaled_dot_product_attention(
                query[None],
                key[None],
                values.expand(1, heads, all_keys, dim),
                attn_mask=None if self.attention.mask is None else self.attention.mask[None, None, None],
                scale=self.attention.scale,
            )
            parts.append(mixed[0, ..., : len(group)].mean(dim=0).T)
        return torch.cat(parts)


@dataclass(frozen=True)
class Refiner:
    """The operator S of equation 12 on maps of ``size``; ``count`` layers are averaged."""

    size: Grid
    count: int
    maps: tuple[MeanMap | FusedMap, ...]

    def __call__(self, maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
        """S applied once to every map."""
        flat = maps.flatten(1)
        total = torch.zeros_like(flat)
        for part in self.maps:
            values = unresize_keys(flat, part.grid, self.size)
            rows = part.apply(values.unflatten(1, (-1, 2)).mean(dim=2) if part.paired else values)
            total += rows if part.picked is None else rows[:, part.picked]
        return (total / self.count).view_as(maps)


@neutral()
def refine(scores: ScoreMaps, refiner: Refiner | None, order: int) -> ScoreMaps:
    """Equation 12, ``order`` times, then every map to [0, 1]; an all-zero background is left out.

    Without a refiner or with order 0 the maps come back as they are.
    """
    if refiner is None or order == 0:
        return scores
    with_background = bool(scores.background.any())
    maps = torch.cat([scores.maps, scores.background[None]]) if with_background else scores.maps
    maps = spread(maps, refiner, order)
    found = replace(scores, maps=maps[:-1], background=maps[-1]) if with_background else replace(scores, maps=maps)
    return stretch(found)


@neutral()
def spread(
    maps: Float[Tensor, "maps height width"], refiner: Refiner | None, order: int
) -> Float[Tensor, "maps height width"]:
    """Equation 12, ``order`` times; without a refiner the maps as they are."""
    if refiner is not None:
        for _ in range(order):
            maps = refiner(maps)
    return maps


@neutral()
def stretch(scores: ScoreMaps) -> ScoreMaps:
    """Every map to [0, 1]; an all-zero background stays."""
    return replace(scores, maps=min_max(scores.maps), background=min_max(scores.background[None])[0])
