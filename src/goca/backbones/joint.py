"""Joint attention (MMDiT): one softmax over text and image tokens side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from goca.backbones.base import Backbone, Settings, additive_mask
from goca.backbones.recorder import AttentionCall
from goca.types import Grid, LayerRecord


class JointAttentionBackbone(Backbone):
    """Families whose blocks have one attention module ``attn`` over both kinds of tokens; the reference features are
    what it hands on for the image tokens. Heads are averaged, as published for FLUX.

    Attributes:
        text_first: whether the text's tokens come before the image's.
    """

    text_first: ClassVar[bool] = True

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        return {"joint": self.denoiser.get_submodule(layer).attn}

    def reference_module(self) -> nn.Module:
        return self.attention_modules(self.reference_layer)["joint"]

    def reference_features(self, output: Any, grid: Grid) -> Float[Tensor, "batch pixels channels"]:
        """The image tokens of what the attention module returns: first of (image, text), or both in one sequence."""
        if isinstance(output, tuple):
            return output[0]
        return output[:, self.image_tokens(output.shape[1], grid)]

    def image_tokens(self, count: int, grid: Grid) -> slice:
        """Which of ``count`` tokens are the image's."""
        pixels = grid[0] * grid[1]
        return slice(count - pixels, count) if self.text_first else slice(0, pixels)

    def text_tokens(self, count: int, grid: Grid) -> slice:
        """Which of ``count`` tokens are the text's."""
        pixels = grid[0] * grid[1]
        return slice(0, count - pixels) if self.text_first else slice(pixels, count)

    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> LayerRecord:
        call = calls["joint"]
        count = call.key.shape[2]
        own, text = self.image_tokens(count, grid), self.text_tokens(count, grid)
        mask = None if call.mask is None else additive_mask(call.mask, image, own.start)[text]
        return LayerRecord(
            name=layer,
            grid=grid,
            cross_query=call.query[image][:, own],
            cross_key=call.key[image][:, text],
            self_key=call.key[image][:, own],
            cross_mask=mask,
            cross_scale=call.scale,
            joint=True,
        )


def derive_by_flux(layers: tuple[str, ...]) -> Settings:
    """For joint attention; gives FLUX.1's 57 blocks (double, then single) the published settings.

    Of n blocks, counted from 0, the reference is number 27/56 (n - 1), rounded; numbers 12/56 (n - 1) and 18/56 (n - 1)
    refine; order 2; t = 150; heads averaged.
    """
    last = len(layers) - 1
    refine = dict.fromkeys(layers[round(part / 56 * last)] for part in (12, 18))
    return Settings(layers[round(27 / 56 * last)], tuple(refine), refine_order=2, timestep=150, head_rule="average")
