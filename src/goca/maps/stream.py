"""One pass over the rows of a layer's self-attention: a block is computed, read by everyone who needs it, and dropped.

Nothing of heads x pixels x pixels ever exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from goca.maps.attention import Attention
from goca.maps.heads import HeadAggregator
from goca.maps.layers import LayerScore
from goca.maps.plan import RowPlan, RowSelector


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a plan, from number ``first`` on.

    Attributes:
        image: rows of S, the mean over the heads of the attention to the pixels.
        text: every head's attention to the text, where one softmax runs over text and image and it is asked for.
    """

    first: int
    image: Float[Tensor, "rows pixels"]
    text: Float[Tensor, "heads rows tokens"] | None


@runtime_checkable
class RowReader(Protocol):
    """Takes what it needs of every block."""

    def read(self, block: RowBlock) -> None:
        """Read one block; blocks come in order."""


def stream_rows(attention: Attention, plan: RowPlan, readers: Sequence[RowReader], with_text: bool = False) -> None:
    """Hand every block of the plan's rows to the readers."""
    for block in row_blocks(attention, plan, with_text):
        for reader in readers:
            reader.read(block)


def row_blocks(attention: Attention, plan: RowPlan, with_text: bool = False) -> Iterator[RowBlock]:
    """The plan's rows of the attention, a block at a time."""
    attention = replace(attention, key=attention.key.float())
    for first, last in attention.blocks(plan.count):
        rows = slice(first, last) if plan.rows is None else plan.rows[first:last]
        text = attention.key.new_empty(len(attention.key), last - first, attention.keys.start) if with_text else None
        yield RowBlock(first, attention.mean_rows(rows, text), text)


class TokenMapReader:
    """Token maps of a layer whose attention to the text comes with the same rows; the plan holds all rows."""

    def __init__(self, heads: HeadAggregator) -> None:
        self._heads = heads
        self._blocks: list[Tensor] = []

    def read(self, block: RowBlock) -> None:
        """Aggregate the heads of one block of pixels."""
        assert block.text is not None
        self._blocks.append(self._heads.maps(block.text, block.first))

    def maps(self) -> Float[Tensor, "pixels tokens"]:
        """Those of all pixels."""
        return torch.cat(self._blocks)


class ScoreReader:
    """Compares a layer's rows with the reference affinity."""

    def __init__(self, selector: RowSelector, score: LayerScore) -> None:
        self._selector, self._score = selector, score
        self._sums: Tensor | None = None

    def read(self, block: RowBlock) -> None:
        """Add what one block contributes."""
        at, rows = self._selector.select(block.image, block.first)
        sums = self._score.partial(rows, at)
        self._sums = sums if self._sums is None else self._sums + sums

    def weight(self) -> Float[Tensor, ""]:
        """The layer's weight."""
        assert self._sums is not None
        return self._score.weight(self._sums)


class ComparedRowsReader:
    """Keeps the rows that will be compared with the reference affinity, which is not there yet."""

    def __init__(self, selector: RowSelector) -> None:
        self._selector = selector
        self._blocks: list[Tensor] = []

    def read(self, block: RowBlock) -> None:
        """Keep the rows of one block that are compared."""
        self._blocks.append(self._selector.select(block.image, block.first)[1])

    def rows(self) -> Float[Tensor, "rows pixels"]:
        """All of them."""
        return torch.cat(self._blocks)


class MeanMapReader:
    """Adds a layer's rows to the sum that refines the maps.

    Args:
        first: whether the layer is the first of its sum, which holds nothing yet.
    """

    def __init__(self, selector: RowSelector, total: Float[Tensor, "rows grid_pixels"], first: bool) -> None:
        self._selector, self._total, self._first = selector, total, first

    def read(self, block: RowBlock) -> None:
        """Add the rows of one block that the output needs."""
        at, rows = self._selector.select(block.image, block.first)
        part = self._total[at : at + len(rows)]
        if self._first:
            part.copy_(rows)
        else:
            part += rows
