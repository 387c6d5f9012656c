"""Auto aggregation over layers: equations 5 to 8 of docs/method.md (GoCA, arXiv 2603.06178).

F [pixels, channels] are the reference features; S_l [pixels, pixels] is the self-attention of layer l, averaged over
its heads::

    R       = softmax(F F^T / sqrt(D))                                          (5)
    S_l     = mean_h softmax(Q_h K_h^T / sqrt(d))                               (6)
    w_l     = max(0, <R, U S_l V^T>)                                            (7)
    A(p, t) = max(0, sum_l w_l A_l(p, t)) / sum_t max(0, sum_l w_l A_l(p, t))   (8)

U S V^T resizes S to the grid of R: queries nearest, keys bilinear. The inner product (7) is <U^T R V, S_l>: R is
transformed once for each grid, S_l is never resized, and rows of S_l that nearest resizing skips are never computed.
The weights need no normalising: the sum over the tokens in (8) divides their sum out.

The other two published rules are not linear in S; they resize its rows block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.maps.plan import compared_rows
from goca.maps.resize import resize_keys, unresize_keys
from goca.types import Grid

TINY = 1e-12


def affinity(
    features: Float[Tensor, "pixels channels"], rows: Int64[Tensor, " rows"] | None = None
) -> Float[Tensor, "rows pixels"]:
    """Equation 5: R = softmax(F F^T / sqrt(D)) in float32, or only some of its rows; each sums to 1."""
    features = features.float()
    queries = features if rows is None else features[rows]
    return torch.softmax((queries * features.shape[-1] ** -0.5) @ features.T, dim=-1)


def inner_product(reference: Float[Tensor, "rows pixels"], rows: Float[Tensor, "rows pixels"]) -> Float[Tensor, " 1"]:
    """Equation 7, the paper's rule, of one block of rows. Naive: ``(reference * rows).sum()``."""
    return torch.dot(reference.flatten(), rows.flatten())[None]


def row_distances(reference: Float[Tensor, "rows pixels"], rows: Float[Tensor, "rows pixels"]) -> Float[Tensor, " 1"]:
    """Rule "mse" of one block: sum over its rows of |R - S|_2."""
    return (reference - rows).norm(dim=-1).sum()[None]


def overlap(reference: Float[Tensor, "rows pixels"], rows: Float[Tensor, "rows pixels"]) -> Float[Tensor, " 2"]:
    """Rule "iou-like" of one block: sums of min(R, S) and of max(R, S)."""
    return torch.stack([torch.minimum(reference, rows).sum(), torch.maximum(reference, rows).sum()])


@dataclass(frozen=True)
class LayerRule:
    """How well R and S agree, from sums that add up over blocks of rows.

    Attributes:
        linear: whether the sums are linear in S; then the transformed R is compared with S as it is, and else R with
            the resized S.
        partial: two equal blocks of rows to a vector of sums.
        weight: the vector added over all blocks to the layer's weight, which is clamped at 0.
        channels: how many channels of F are read, the first ones; ``None`` for all.
    """

    linear: bool
    partial: Callable[[Tensor, Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]
    channels: int | None = None


LAYER_RULES: dict[str, LayerRule | None] = {
    "dot-product similarity": LayerRule(True, inner_product, lambda sums: sums[0]),
    # The published evaluation code indexes F twice, so that one channel is left of it; paper and golden files take all.
    "dot-product similarity of channel 0": LayerRule(True, inner_product, lambda sums: sums[0], channels=1),
    "mse": LayerRule(False, row_distances, lambda sums: 1 / sums[0].clamp_min(TINY)),
    "iou-like": LayerRule(False, overlap, lambda sums: sums[0] / (sums[1] + 1e-4)),
    "vanilla": None,
}
"""Rules by their published names; ``None`` gives all layers the same weight. Rules of your own may be added."""


class LayerScore:
    """Compares R with the self-attention of layers on one grid, a block of rows at a time.

    Args:
        reference: R, or its rows :func:`goca.maps.plan.sample_rows`.
        sampled: whether it is these rows alone.
    """

    def __init__(
        self,
        rule: LayerRule,
        reference: Float[Tensor, "rows pixels"],
        reference_grid: Grid,
        grid: Grid,
        sampled: bool = False,
    ) -> None:
        self.rule, self.reference_grid, self.grid = rule, reference_grid, grid
        self.reference = reference
        if grid == reference_grid:
            return
        sources, partner = compared_rows(grid, reference_grid, sampled)
        partner = partner.to(reference.device)
        if rule.linear:
            folded = reference.new_zeros(len(sources), reference.shape[1]).index_add_(0, partner, reference)
            self.reference = unresize_keys(folded, grid, reference_grid)  # U^T R V
        else:
            order = torch.argsort(partner, stable=True)
            counts = torch.bincount(partner, minlength=len(sources))
            self.reference, self.partner = reference[order], partner[order]
            self.offsets = [0, *counts.cumsum(0).tolist()]

    def partial(self, rows: Float[Tensor, "rows pixels"], first: int) -> Float[Tensor, " sums"]:
        """The rule's sums for a block of the rows :func:`goca.maps.plan.compared_rows` of S, from the ``first`` on."""
        last = first + len(rows)
        if self.rule.linear or self.grid == self.reference_grid:
            return self.rule.partial(self.reference[first:last], rows)
        span = slice(self.offsets[first], self.offsets[last])
        resized = resize_keys(rows, self.grid, self.reference_grid)
        return self.rule.partial(self.reference[span], resized[self.partner[span] - first])

    def weight(self, sums: Float[Tensor, " sums"]) -> Float[Tensor, ""]:
        """The layer's weight, 0 or more, from the sums over all rows."""
        return self.rule.weight(sums).clamp_min(0)
