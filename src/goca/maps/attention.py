"""Attention probabilities of a record, a block of query rows at a time, in float32 whatever the model's dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from goca.types import CrossRecord, JointRecord, LayerRecord

BLOCK_SCORES_CPU = 2**19  # 2 MiB of scores stay in the cache, and enough rows share each read of the keys
BLOCK_SCORES_DEVICE = 2**26  # 256 MiB, so that a block is worth its kernel launches


@dataclass(frozen=True)
class Attention:
    """softmax(scale * q k^T + mask), of which ``keys`` are looked at (the rest only takes part in the softmax)."""

    query: Float[Tensor, "heads pixels dim"]
    key: Float[Tensor, "heads all_keys dim"]
    keys: slice
    scale: float
    mask: Float[Tensor, " all_keys"] | None = None

    def paired(self) -> Attention:
        """The same with every two neighbouring keys of a row (of even length) replaced by their mean, which counts
        twice."""
        first = self.keys.start or 0
        means = self.key[:, first:].float().unflatten(1, (-1, 2)).mean(dim=2)
        if first == 0:
            return replace(self, key=means, mask=None)
        others = means.new_zeros(first) if self.mask is None else self.mask[:first]
        mask = torch.cat([others, means.new_full((means.shape[1],), log(2))])
        return replace(self, key=torch.cat([self.key[:, :first].float(), means], dim=1), mask=mask)

    def blocks(self, rows: int, heads: int = 1) -> Iterator[tuple[int, int]]:
        """Consecutive (first, last) that cut ``rows`` queries into blocks of even length, so that the scores of
        ``heads`` heads fit the memory budget."""
        budget = BLOCK_SCORES_CPU if self.query.device.type == "cpu" else BLOCK_SCORES_DEVICE
        step = max(2, budget // (heads * self.key.shape[1]) // 2 * 2)
        for first in range(0, rows, step):
            yield first, min(first + step, rows)

    def probabilities(self, rows: slice | Int64[Tensor, " rows"]) -> Float[Tensor, "heads rows keys"]:
        """Probabilities in [0, 1] of the chosen query rows; a row sums to 1 over all keys."""
        query, keys = self.query[:, rows].float(), self.key.float().transpose(1, 2)
        bias = keys.new_zeros(()) if self.mask is None else self.mask
        return torch.softmax(torch.baddbmm(bias, query, keys, alpha=self.scale), dim=-1)[..., self.keys]

    def mean_rows(
        self, rows: slice | Int64[Tensor, " rows"], others: Float[Tensor, "heads rows others"] | None = None
    ) -> Float[Tensor, "rows keys"]:
        """Equation 6: rows of S = mean over the heads of the probabilities, one head after the other in two buffers.

        Args:
            others: takes every head's probabilities of the keys before :attr:`keys`, which one softmax gives too.
        """
        query, keys = self.query[:, rows].float() * self.scale, self.key.float().transpose(1, 2)
        scores = query.new_empty(query.shape[1], keys.shape[2])
        probabilities = torch.empty_like(scores)
        mean = torch.zeros_like(scores[:, self.keys])
        for head, (head_query, head_key) in enumerate(zip(query, keys, strict=True)):
            torch.mm(head_query, head_key, out=scores)
            if self.mask is not None:
                scores += self.mask
            torch.softmax(scores, dim=-1, out=probabilities)
            mean.add_(probabilities[:, self.keys], alpha=1 / len(query))
            if others is not None:
                others[head] = probabilities[:, : self.keys.start]
        return mean


def cross_attention(record: LayerRecord) -> Attention:
    """Attention of the pixels to the text tokens of one block."""
    tokens = slice(0, record.cross_key.shape[1])
    scale = _scale(record.cross_scale, record.cross_query)
    if isinstance(record, JointRecord):
        return Attention(record.cross_query, _joint_keys(record), tokens, scale, _joint_mask(record))
    mask = None if record.cross_mask is None else record.cross_mask.float()
    return Attention(record.cross_query, record.cross_key.float(), tokens, scale, mask)


def self_attention(record: LayerRecord) -> Attention:
    """Attention of the pixels to each other in one block.

    Queries and keys keep their dtype, because they may be kept until the reference layer has run.

    Raises:
        ValueError: the record holds no self-attention.
    """
    if isinstance(record, JointRecord):
        pixels = slice(record.cross_key.shape[1], None)
        scale = _scale(record.cross_scale, record.cross_query)
        return Attention(record.cross_query, _joint_keys(record), pixels, scale, _joint_mask(record))
    if not isinstance(record, CrossRecord) or record.self_query is None or record.self_key is None:
        raise ValueError(
            f"layer {record.name!r} has no self-attention map; "
            "leave it out of the refinement layers and use layer rule 'vanilla'"
        )
    return Attention(record.self_query, record.self_key, slice(None), _scale(record.self_scale, record.self_query))


def _scale(scale: float | None, query: Tensor) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


def _joint_keys(record: JointRecord) -> Float[Tensor, "heads all_keys dim"]:
    return torch.cat([record.cross_key, record.image_key], dim=1)


def _joint_mask(record: JointRecord) -> Float[Tensor, " all_keys"] | None:
    if record.cross_mask is None:
        return None
    mask = record.cross_mask.float()
    return torch.cat([mask, mask.new_zeros(record.image_key.shape[1])])
