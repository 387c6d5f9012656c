"""What is seen of each layer while the denoiser runs, one layer at a time and a block of its pixels at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from goca.lookup import look_up
from goca.maps.attention import cross_attention
from goca.maps.heads import HeadAggregator, weigh_heads
from goca.observation.records import RecordFile
from goca.observation.tokens import ROLES
from goca.types import LayerRecord


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The attention of one layer to the text, on the layer's own grid, float32.

    The axis ``seen`` holds the tokens of the text in their order, then the sum over all special tokens, so that a sum
    over it is the whole attention to the text: 1 in cross-attention, less in joint attention, where pixels also look at
    each other in the same softmax.

    Attributes:
        name: of the layer.
        weight: w_l of equation 7 as a share of all layers, in [0, 1].
        head_weights: w_h(p) of equation 3; they sum to 1 over the heads, single ones may be negative.
        maps: A_l(p, t) of equation 4, the sum over the heads of weight times map.
        head_shares: what each head gives to special, content and stuff tokens (:data:`goca.observation.ROLES`), of all
            it gives to the text, mean over the pixels; each head's shares sum to 1.
        head_maps: A_h(p, t) in [0, 1], the probabilities themselves; ``None`` where they were not kept.
    """

    name: str
    weight: float
    head_weights: Float[np.ndarray, "heads rows columns"]
    maps: Float[np.ndarray, "seen rows columns"]
    head_shares: Float[np.ndarray, "heads roles"]
    head_maps: Float[np.ndarray, "heads seen rows columns"] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the layer's pixels."""
        return (self.maps.shape[1], self.maps.shape[2])

    @property
    def heads(self) -> int:
        """How many heads the layer has."""
        return len(self.head_weights)

    def head(self, number: int) -> Float[np.ndarray, "seen rows columns"]:
        """The map A_h of one head.

        Raises:
            ValueError: no such head, or its maps were not kept.
        """
        check_head(self.name, number, self.heads)
        if self.head_maps is None:
            raise ValueError(f"the heads of layer {self.name!r} were not kept; name it in explain(layers=...)")
        return self.head_maps[int(number)]


class LayerObserver:
    """Takes the records of one image, each layer's once, and keeps a :class:`LayerMaps` of it.

    What is computed is the naive form of equations 3 and 4 in blocks of pixels, whose probabilities are the largest
    tensor; what is kept are 4 (heads + seen) bytes per pixel of a layer, and 4 heads x seen where head maps are.

    Args:
        layers: whose cross-attention is observed.
        head_rule: key of :data:`goca.maps.heads.HEAD_RULES`.
        content_tokens: positions of the content tokens.
        text_tokens: positions of all tokens that are not special, ascending.
        head_layers: the layers whose head maps are kept.
        file: gets every record whole.
    """

    def __init__(
        self,
        layers: Collection[str],
        head_rule: str,
        content_tokens: Collection[int],
        text_tokens: Sequence[int],
        head_layers: Collection[str],
        file: RecordFile | None = None,
    ) -> None:
        self.layers = frozenset(layers)
        self._rule, self._text, self._head_layers, self._file = head_rule, tuple(text_tokens), head_layers, file
        self._content = [position in content_tokens for position in text_tokens]
        self._maps: list[LayerMaps] = []

    @torch.no_grad()
    def add(self, record: LayerRecord) -> None:
        """Take one layer's record."""
        if record.name not in self.layers:
            return
        if self._file is not None:
            self._file.add(record)
        attention, aggregator = cross_attention(record), HeadAggregator(record, self._rule)
        heads, pixels, _ = record.cross_query.shape
        keep = record.name in self._head_layers
        weights, maps, shares, head_maps = [], [], [], []
        for first, last in attention.blocks(pixels, heads):
            probabilities = attention.probabilities(slice(first, last))
            weights.append(aggregator.weights(probabilities, first))
            seen = self._add_up_special(probabilities)
            maps.append(weigh_heads(seen, weights[-1]))
            shares.append(self._shares(seen))
            if keep:
                head_maps.append(seen)
        grid = record.grid
        self._maps.append(
            LayerMaps(
                name=record.name,
                weight=0.0,
                head_weights=_on_grid(torch.cat(weights, dim=1), grid),
                maps=_on_grid(torch.cat(maps).T, grid),
                head_shares=_to_numpy(torch.cat(shares, dim=1).mean(dim=1)),
                head_maps=_on_grid(torch.cat(head_maps, dim=1).transpose(1, 2), grid) if keep else None,
            )
        )

    def finish(self, weights: dict[str, float]) -> tuple[LayerMaps, ...]:
        """All layers in forward order, with their shares of the layer weights."""
        return tuple(replace(each, weight=weights[each.name]) for each in self._maps)

    def _add_up_special(
        self, probabilities: Float[Tensor, "heads pixels tokens"]
    ) -> Float[Tensor, "heads pixels seen"]:
        """The tokens of the text, then the sum over the others."""
        special = [token for token in range(probabilities.shape[-1]) if token not in self._text]
        rest = probabilities[..., special].sum(dim=-1, keepdim=True)
        return torch.cat([probabilities[..., list(self._text)], rest], dim=-1)

    def _shares(self, seen: Float[Tensor, "heads pixels seen"]) -> Float[Tensor, "heads pixels roles"]:
        """Special, content and stuff tokens' part of each head's attention to the text."""
        return role_sums(seen.movedim(-1, 0), self._content).movedim(0, -1)


def check_head(layer: str, head: int, heads: int) -> None:
    """Raise ``ValueError`` for a head that a layer of so many does not have."""
    if head not in range(heads):
        raise ValueError(f"layer {layer!r} has no head {head}; choose one from 0 to {heads - 1}")


def layer_index(names: Sequence[str], layer: str | int) -> int:
    """Where a layer is among those observed, by its name or its number counted from 0.

    Raises:
        ValueError: there is no such layer; the message gives the choices.
    """
    number = str(layer)
    if number not in names and number.isascii() and number.isdecimal() and int(number) < len(names):
        return int(number)
    look_up(names, number, "aggregated layer", hint=f", or a number from 0 to {len(names) - 1}")
    return list(names).index(number)


def role_sums(seen: Float[Tensor, "seen ..."], content: Sequence[bool]) -> Float[Tensor, "roles ..."]:
    """Sums over special, content and stuff tokens, divided by the sum over all.

    Args:
        content: for each token of the text, whether it is content.
    """
    is_content = torch.tensor([*content, False], device=seen.device)
    is_stuff = torch.tensor([*(not each for each in content), False], device=seen.device)
    sums = torch.stack([seen[-1], seen[is_content].sum(dim=0), seen[is_stuff].sum(dim=0)])
    assert len(sums) == len(ROLES)
    return sums / seen.sum(dim=0).clamp_min(torch.finfo(seen.dtype).tiny)


def _on_grid(values: Tensor, grid: tuple[int, int]) -> np.ndarray:
    return _to_numpy(values.unflatten(-1, tuple(grid)))


def _to_numpy(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.float().cpu().numpy())
