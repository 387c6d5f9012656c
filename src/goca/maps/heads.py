"""Auto aggregation over the heads of one layer: equations 1 to 4 of docs/method.md (GoCA, arXiv 2603.06178).

For head h of a layer, A_h [pixels, tokens] is the cross-attention, V_h [tokens, dim] the values and W_h [dim,
out_channels] the head's rows of the output projection W, without its bias::

    o_h     = A_h V_h                                   (1)
    y       = sum_h o_h W_h                             (2)
    w_h(p)  = <o_h(p) W_h, y(p)> / |y(p)|^2             (3)
    A(p, t) = sum_h w_h(p) A_h(p, t)                    (4)

The division in (3) is never written: sum_h <o_h W_h, y> = <y, y> = |y|^2, so dividing the weights by their sum over the
heads, as every rule's weights are, is that division. Nor is o_h W_h [heads, pixels, out_channels] formed: with u = y
W^T split by heads, <o_h W_h, y> = <o_h, u_h>.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.ambient import neutral
from goca.lookup import look_up
from goca.maps.attention import Attention, cross_attention
from goca.types import CrossRecord, LayerRecord, OutputProjection

HIDDEN = -1000.0  # added to a score, it leaves nothing of the probability
PROBE = 64.0  # identity rows are this large, so that adding a bias in half precision rounds less of the weight away
TINY = 1e-12


@dataclass(frozen=True)
class HeadValues:
    """V and W of one layer, and the products that do not depend on the pixels.

    Attributes:
        value: V_h of all tokens, hidden ones too.
        weight: W^T, the layout of ``torch.nn.Linear``.
        pixels: how many the layer has.
    """

    value: Float[Tensor, "heads tokens dim"]
    weight: Float[Tensor, "out_channels channels"]
    pixels: int

    @cached_property
    def gram(self) -> Float[Tensor, "channels channels"]:
        """W W^T."""
        return self.weight.T @ self.weight

    @cached_property
    def head_grams(self) -> Float[Tensor, "heads dim dim"]:
        """W_h W_h^T of every head."""
        heads, _, dim = self.value.shape
        blocks = self.weight.view(-1, heads, dim).permute(1, 2, 0)
        return blocks @ blocks.transpose(1, 2)

    @cached_property
    def spectral_norms(self) -> Float[Tensor, "heads 1"]:
        """Largest singular value of V_h W_h [tokens, out_channels], from the eigenvalues of V_h (W_h W_h^T) V_h^T.

        Naive: ``torch.linalg.matrix_norm(value @ blocks, ord=2)`` with the blocks W_h.
        """
        squares = torch.linalg.eigvalsh(self.value @ self.head_grams @ self.value.transpose(1, 2))
        return squares[:, -1:].clamp_min(0).sqrt()


@dataclass(frozen=True)
class HeadOutputs:
    """What a head rule may read of a block of pixels of one layer.

    Attributes:
        probabilities: A_h; tokens that a mask hides are left out.
        outputs: o_h, equation 1.
        values: V and W of the layer.
        known_output: y of these pixels, where the model's own was recorded.
    """

    probabilities: Float[Tensor, "heads pixels tokens"]
    outputs: Float[Tensor, "heads pixels dim"]
    values: HeadValues
    known_output: Float[Tensor, "pixels out_channels"] | None = None

    @cached_property
    def concatenated(self) -> Float[Tensor, "pixels channels"]:
        """o, the outputs of all heads side by side."""
        return self.outputs.transpose(0, 1).flatten(1)

    @cached_property
    def layer_output(self) -> Float[Tensor, "pixels out_channels"]:
        """Equation 2: y = sum_h o_h W_h = o W."""
        return self.concatenated @ self.values.weight.T if self.known_output is None else self.known_output


def dot_products(heads: HeadOutputs) -> Float[Tensor, "heads pixels"]:
    """Equation 3, the paper's rule, before the weights are divided by their sum |y(p)|^2: <o_h(p) W_h, y(p)>.

    Naive: ``parts = outputs @ blocks`` with the blocks W_h, then ``(parts * parts.sum(0)).sum(-1)``. Here: <o_h, u_h>
    with u = y W^T; or u = o (W W^T), one product less for each block, if y is not known and the layer has more pixels
    than channels.
    """
    count, pixels, dim = heads.outputs.shape
    values = heads.values
    if heads.known_output is None and values.pixels >= values.weight.shape[1]:
        projected_back = heads.concatenated @ values.gram
    else:
        projected_back = heads.layer_output @ values.weight
    return (heads.outputs * projected_back.view(pixels, count, dim).transpose(0, 1)).sum(dim=-1)


def norms(heads: HeadOutputs) -> Float[Tensor, "heads pixels"]:
    """|o_h(p) W_h|. Naive: ``(outputs @ blocks).norm(dim=-1)``; here sqrt(o_h (W_h W_h^T) o_h^T)."""
    return ((heads.outputs @ heads.values.head_grams) * heads.outputs).sum(dim=-1).clamp_min(0).sqrt()


def cosines(heads: HeadOutputs) -> Float[Tensor, "heads pixels"]:
    """Cosine between o_h(p) W_h and y(p), in [-1, 1]. Naive: ``cosine_similarity(parts, parts.sum(0)[None], -1)``."""
    return dot_products(heads) / (norms(heads) * heads.layer_output.norm(dim=-1)).clamp_min(TINY)


HeadRule = Callable[[HeadOutputs], Float[Tensor, "heads pixels"]]

HEAD_RULES: dict[str, HeadRule | None] = {
    "average": None,
    "l2-norm": norms,
    "cosine": cosines,
    "dot-product": lambda heads: dot_products(heads).clamp_min(0),
    "dot-product w/o clamp": dot_products,
    "cosine + VW": lambda heads: cosines(heads) * heads.values.spectral_norms,
    "dot-product + VW": lambda heads: dot_products(heads).clamp_min(0) * heads.values.spectral_norms,
}
"""Rules by their published names; ``None`` averages the heads. Rules of your own may be added."""


def normalise(weights: Float[Tensor, "heads pixels"]) -> Float[Tensor, "heads pixels"]:
    """w_h(p) / sum_h w_h(p), or 1 / heads at a pixel where that sum is exactly 0."""
    total = weights.sum(dim=0)
    return torch.where(total == 0, 1 / len(weights), weights / total)


def weigh_heads(
    probabilities: Float[Tensor, "heads pixels tokens"], weights: Float[Tensor, "heads pixels"]
) -> Float[Tensor, "pixels tokens"]:
    """Equation 4: A(p, t) = sum_h w_h(p) A_h(p, t)."""
    return (probabilities * weights[..., None]).sum(dim=0)


class HeadAggregator:
    """Equations 1 to 4 for one layer, a block of pixels at a time.

    Args:
        record: of the layer.
        rule: key of :data:`HEAD_RULES`.
        paired: weigh the heads of two consecutive pixels alike, by the mean of what both see, in half the time.
        shown: the tokens that the blocks' probabilities cover; all by default.

    Raises:
        ValueError: unknown rule.
    """

    def __init__(
        self, record: LayerRecord, rule: str, paired: bool = False, shown: Int64[Tensor, " shown"] | None = None
    ) -> None:
        self._name, self._paired = rule, paired
        self._rule: HeadRule | None = None
        if averages(record, rule):
            return
        assert record.cross_value is not None and record.projection is not None
        self._rule = look_up(HEAD_RULES, rule, "head rule")
        value, weight = record.cross_value.float(), projection_matrix(record.projection, record.cross_value)
        self._values = HeadValues(value, weight, record.cross_query.shape[1])
        self._shown_value = value if shown is None else value[:, shown]
        self._known_output = record.output if isinstance(record, CrossRecord) else None

    def weights(self, probabilities: Float[Tensor, "heads pixels tokens"], first: int) -> Float[Tensor, "heads pixels"]:
        """Equations 1 to 3 for the block of pixels from the ``first`` on; over the heads they sum to 1.

        Raises:
            ValueError: the rule gave another shape.
        """
        if self._rule is None:
            return probabilities.new_full(probabilities.shape[:2], 1 / len(probabilities))
        known = None if self._known_output is None else self._known_output[first : first + probabilities.shape[1]]
        paired = self._paired and probabilities.shape[1] % 2 == 0
        if paired:
            probabilities = probabilities.unflatten(1, (-1, 2)).mean(dim=2)
            known = None if known is None else known.unflatten(0, (-1, 2)).mean(dim=1)
        heads = HeadOutputs(probabilities, probabilities @ self._shown_value, self._values, known)
        weights = self._rule(heads)
        if weights.shape != probabilities.shape[:2]:
            found, wanted = tuple(weights.shape), tuple(probabilities.shape[:2])
            raise ValueError(f"head rule {self._name!r} gives weights of shape {found}; (heads, pixels) are {wanted}")
        return normalise(weights).repeat_interleave(2, dim=1) if paired else normalise(weights)

    def maps(self, probabilities: Float[Tensor, "heads pixels tokens"], first: int) -> Float[Tensor, "pixels tokens"]:
        """Equation 4 for the block of pixels from the ``first`` on."""
        if self._rule is None:
            return probabilities.mean(dim=0)
        return weigh_heads(probabilities, self.weights(probabilities, first))


@neutral()
def aggregate_heads(
    record: LayerRecord, rule: str = "dot-product w/o clamp", paired: bool = False
) -> Float[Tensor, "pixels tokens"]:
    """A(p, t) of one layer in float32, in blocks of pixels; a block's probabilities are the largest tensor.

    Heads are averaged where the rule says so, where the layer has no value or projection, and at a pixel whose weights
    sum to exactly 0. Tokens that a mask hides get 0 without being looked at (PixArt-Sigma has 300 tokens, most of them
    padding).

    Args:
        rule: key of :data:`HEAD_RULES`.
        paired: see :class:`HeadAggregator`.

    Raises:
        ValueError: unknown rule.
    """
    attention, shown = _visible_attention(record)
    heads, pixels, _ = record.cross_query.shape
    if averages(record, rule):
        blocks = [attention.mean_rows(slice(*span)) for span in attention.blocks(pixels)]
    else:
        aggregator = HeadAggregator(record, rule, paired, shown)
        spans = attention.blocks(pixels, heads)
        blocks = [aggregator.maps(attention.probabilities(slice(*span)), span[0]) for span in spans]
    maps = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
    if shown is None:
        return maps
    return maps.new_zeros(pixels, record.cross_key.shape[1]).index_copy_(1, shown, maps)


@neutral()
def head_weights(record: LayerRecord, rule: str = "dot-product w/o clamp") -> Float[Tensor, "heads pixels"]:
    """w_h(p) of all heads and pixels of one layer; over the heads they sum to 1, single ones may be negative.

    Raises:
        ValueError: unknown rule.
    """
    attention, shown = _visible_attention(record)
    aggregator = HeadAggregator(record, rule, shown=shown)
    spans = attention.blocks(record.cross_query.shape[1], len(record.cross_query))
    blocks = [aggregator.weights(attention.probabilities(slice(*span)), span[0]) for span in spans]
    return torch.cat(blocks, dim=1)


def averages(record: LayerRecord, rule: str) -> bool:
    """Whether all heads of this layer count the same: the rule says so, or there are no values or no projection.

    Raises:
        ValueError: unknown rule.
    """
    weigh = look_up(HEAD_RULES, rule, "head rule")
    return weigh is None or record.cross_value is None or record.projection is None


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


def _visible_attention(record: LayerRecord) -> tuple[Attention, Int64[Tensor, " shown"] | None]:
    """Cross-attention without the tokens that a mask hides, and the others' positions; ``None`` for all of them."""
    attention = cross_attention(record)
    if attention.mask is None or not isinstance(record, CrossRecord):
        return attention, None
    shown = (attention.mask > HIDDEN).nonzero()[:, 0]
    return replace(attention, key=attention.key[:, shown], mask=attention.mask[shown]), shown
