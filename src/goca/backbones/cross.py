"""Families whose transformer blocks have self-attention among the pixels and cross-attention from pixels to text."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from typing import Any, ClassVar

from torch import nn

from goca.backbones.base import Backbone
from goca.backbones.checks import check_pixels
from goca.backbones.hooks import AttentionCall
from goca.backbones.projection import output_projection
from goca.backbones.settings import Settings
from goca.types import CrossRecord, Grid


class CrossAttentionBackbone(Backbone):
    """Each transformer block has self-attention ``attn1`` and cross-attention ``attn2``; the reference features are the
    query that ``attn2.to_q`` gives in the reference layer.

    Attributes:
        stack: name of the denoiser's list of blocks.
    """

    stack: ClassVar[str] = "transformer_blocks"

    @classmethod
    def find_layers(cls, denoiser: Any) -> tuple[str, ...]:
        return tuple(f"{cls.stack}.{index}" for index in range(len(getattr(denoiser, cls.stack))))

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        return derive_by_depth(layers)

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        block = self.denoiser.get_submodule(layer)
        return {"self": block.attn1, "cross": block.attn2} if self.self_maps else {"cross": block.attn2}

    def reference_module(self) -> nn.Module:
        return self.denoiser.get_submodule(self.reference_layer).attn2.to_q

    def output_module(self, layer: str) -> nn.Module | None:
        """None where an image prompt (IP-Adapter) adds to the heads of the text."""
        attention = self.denoiser.get_submodule(layer).attn2
        return None if hasattr(attention.processor, "to_k_ip") else attention.to_out[0]

    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> CrossRecord:
        cross, own = calls["cross"], calls.get("self")
        seen = (cross.query, own.query, own.key) if own else (cross.query,)
        check_pixels(layer, grid, (each.shape[2] for each in seen))
        return CrossRecord(
            name=layer,
            grid=grid,
            cross_query=cross.query[image],
            cross_key=cross.key[image],
            cross_value=cross.value[image],
            projection=output_projection(self.denoiser.get_submodule(layer).attn2),
            cross_mask=cross.additive_mask(image),
            cross_scale=cross.scale,
            self_query=own.query[image] if own else None,
            self_key=own.key[image] if own else None,
            self_scale=own.scale if own else None,
        )


def derive_by_depth(layers: tuple[str, ...]) -> Settings:
    """For transformers with cross-attention; gives PixArt's 28 blocks the published settings.

    Of n blocks the reference is block (n - 1) // 2; blocks from 0.35 n to 0.61 n refine (at least the reference); order
    5.
    """
    count = len(layers)
    reference = layers[(count - 1) // 2]
    refine = tuple(layers[ceil(0.35 * count) : floor(0.61 * count) + 1]) or (reference,)
    return Settings(reference, refine, refine_order=5)
