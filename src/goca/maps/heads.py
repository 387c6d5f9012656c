"""Auto aggregation over the heads of one layer, in closed form.

A_h [pixels, tokens] is the cross-attention of head h, o_h = A_h V_h its output, W_h its block of the bias-free output
projection and y = sum_h o_h W_h. The paper weighs head h at pixel p by w_h(p) = <o_h(p) W_h, y(p)> / |y(p)|^2. With u
= y W^T split by heads this is <o_h(p), u_h(p)>: two matrix products, one where the model's own y was recorded, and no
tensor of pixels x heads x channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.maps.attention import cross_attention
from goca.types import CrossRecord, JointRecord, LayerRecord, OutputProjection

HIDDEN = -1000.0  # added to a score, it leaves nothing of the probability
PROBE = 64.0  # identity rows are this large, so that adding a bias in half precision rounds less of the weight away


def projection_matrix(
    projection: OutputProjection, value: Float[Tensor, "heads tokens dim"]
) -> Float[Tensor, "out_channels channels"]:
    """W^T in float32; read off the module where it is no plain matrix.

    A linear module f with a bias is its value on the identity: W = (f(s I) - f(0)) / s. This needs no gradient, so it
    also works in inference mode and for quantised modules that have none.

    Raises:
        ValueError: neither a weight nor a function is there.
    """
    if projection.weight is not None:
        return projection.weight.float()
    if projection.forward is None:
        raise ValueError("an output projection needs a weight or a forward function; give one of them")
    channels = value.shape[0] * value.shape[2]
    inputs = torch.zeros(channels + 1, channels, dtype=value.dtype, device=value.device)
    inputs[:channels].fill_diagonal_(PROBE)
    outputs = projection.forward(inputs).float()
    return ((outputs[:-1] - outputs[-1:]) / PROBE).T


class HeadOutputs:
    """Inner products of what the heads of one layer contribute; ``select`` a block of pixels, then read them."""

    def __init__(
        self, value: Float[Tensor, "heads tokens dim"], weight: Float[Tensor, "out_channels channels"], pixels: int
    ) -> None:
        self.value = value.float()
        self.weight = weight
        self.many = pixels >= weight.shape[1]

    def select(
        self,
        probabilities: Float[Tensor, "heads pixels shown"],
        shown: Int64[Tensor, " shown"] | None = None,
        total: Float[Tensor, "pixels out_channels"] | None = None,
    ) -> None:
        """Make o = A V of these pixels the current block; ``shown`` are the tokens that A covers, all by default, and
        ``total`` is y where it is known."""
        self.outputs = probabilities @ (self.value if shown is None else self.value[:, shown])
        self.joined = self.outputs.transpose(0, 1).flatten(1)
        self.total = total

    def dots(self) -> Float[Tensor, "heads pixels"]:
        """<o_h W_h, y>, through u = y W^T, or u = o (W W^T) where there are more pixels than channels."""
        heads, pixels, dim = self.outputs.shape
        pulled = self.joined @ self.square if self.many and self.total is None else self.sums() @ self.weight
        return (self.outputs * pulled.view(pixels, heads, dim).transpose(0, 1)).sum(dim=-1)

    def sums(self) -> Float[Tensor, "pixels out_channels"]:
        """y = sum_h o_h W_h."""
        return self.joined @ self.weight.T if self.total is None else self.total

    def norms(self) -> Float[Tensor, "heads pixels"]:
        """|o_h W_h| = sqrt(o_h (W_h W_h^T) o_h^T)."""
        return ((self.outputs @ self.gram) * self.outputs).sum(dim=-1).clamp_min(0).sqrt()

    def cosines(self) -> Float[Tensor, "heads pixels"]:
        """Cosine between o_h W_h and y, in [-1, 1]."""
        return self.dots() / (self.norms() * self.sums().norm(dim=-1)).clamp_min(1e-12)

    @cached_property
    def square(self) -> Float[Tensor, "channels channels"]:
        """W W^T."""
        return self.weight.T @ self.weight

    @cached_property
    def gram(self) -> Float[Tensor, "heads dim dim"]:
        """W_h W_h^T of every head."""
        heads, _, dim = self.value.shape
        blocks = self.weight.view(-1, heads, dim).permute(1, 2, 0)
        return blocks @ blocks.transpose(1, 2)

    @cached_property
    def value_norms(self) -> Float[Tensor, "heads 1"]:
        """Largest singular value of V_h W_h over the tokens, from the eigenvalues of V_h (W_h W_h^T) V_h^T."""
        squares = torch.linalg.eigvalsh(self.value @ self.gram @ self.value.transpose(1, 2))
        return squares[:, -1:].clamp_min(0).sqrt()


HeadRule = Callable[[HeadOutputs], Float[Tensor, "heads pixels"]]

HEAD_RULES: dict[str, HeadRule | None] = {
    "average": None,
    "l2-norm": HeadOutputs.norms,
    "cosine": HeadOutputs.cosines,
    "dot-product": lambda heads: heads.dots().clamp_min(0),
    "dot-product w/o clamp": HeadOutputs.dots,
    "cosine + VW": lambda heads: heads.cosines() * heads.value_norms,
    "dot-product + VW": lambda heads: heads.dots().clamp_min(0) * heads.value_norms,
}


def head_rule(name: str) -> HeadRule | None:
    """The rule of that name; ``None`` averages.

    Raises:
        ValueError: unknown name.
    """
    if name not in HEAD_RULES:
        raise ValueError(f"unknown head rule {name!r}; choose one of: {', '.join(HEAD_RULES)}")
    return HEAD_RULES[name]


def averages(record: LayerRecord, rule: str) -> bool:
    """Whether all heads of this layer count the same, because the rule says so or there is nothing to weigh them by."""
    return head_rule(rule) is None or record.cross_value is None or record.projection is None


def aggregate_heads(
    record: LayerRecord, rule: str = "dot-product w/o clamp", paired: bool = False
) -> Float[Tensor, "pixels tokens"]:
    """A(p, t) = sum_h w_h(p) A_h(p, t) in float32, the weights summing to 1 over the heads of every pixel.

    Heads are averaged where the rule says so, where the layer has no value or projection, and at a pixel whose weights
    sum to exactly 0. Works in blocks of pixels; a block's probabilities are the largest tensor.

    ``paired`` weighs the heads of two consecutive pixels alike, by the mean of what both see, in half the time.

    Tokens that a mask hides get 0 without being looked at (PixArt-Sigma has 300 tokens, most of them padding).

    Raises:
        ValueError: unknown rule.
    """
    weigh = head_rule(rule)
    heads, pixels, _ = record.cross_query.shape
    mask = None if isinstance(record, JointRecord) else record.cross_mask
    shown = None if mask is None else (mask > HIDDEN).nonzero()[:, 0]
    attention = cross_attention(record)
    if shown is not None and attention.mask is not None:
        attention = replace(attention, key=attention.key[:, shown], mask=attention.mask[shown])
    blocks = []
    if averages(record, rule):
        blocks = [attention.mean_rows(slice(first, last)) for first, last in attention.blocks(pixels)]
    else:
        assert weigh is not None and record.cross_value is not None and record.projection is not None
        weight = projection_matrix(record.projection, record.cross_value)
        outputs = HeadOutputs(record.cross_value, weight, pixels)
        known = record.output if isinstance(record, CrossRecord) else None
        for first, last in attention.blocks(pixels, heads):
            probabilities = attention.probabilities(slice(first, last))
            pairs = paired and (last - first) % 2 == 0
            total = known[first:last] if known is not None else None
            if pairs:
                halves = None if total is None else total.unflatten(0, (-1, 2)).mean(dim=1)
                outputs.select(probabilities.unflatten(1, (-1, 2)).mean(dim=2), shown, halves)
            else:
                outputs.select(probabilities, shown, total)
            weights = weigh(outputs).repeat_interleave(2, dim=1) if pairs else weigh(outputs)
            norm = weights.sum(dim=0)
            weights = torch.where(norm == 0, 1 / heads, weights / norm)
            blocks.append((probabilities * weights[..., None]).sum(dim=0))
    maps = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
    if shown is None:
        return maps
    everywhere = maps.new_zeros(pixels, record.cross_key.shape[1])
    everywhere[:, shown] = maps
    return everywhere
