"""Joint attention (MMDiT): one softmax over text and image tokens side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from jaxtyping import Float
from torch import Tensor, nn

from goca.backbones.base import Backbone
from goca.backbones.checks import check_pixels
from goca.backbones.hooks import AttentionCall
from goca.backbones.projection import output_projection
from goca.backbones.settings import Settings
from goca.types import Grid, JointRecord


class JointAttentionBackbone(Backbone):
    """Families whose blocks have one attention module ``attn`` over both kinds of tokens; the reference features are
    what it hands on for the image tokens.

    A block whose attention has an output projection of its own is recorded with the text's values and that matrix, the
    one that the image tokens pass; FLUX's single blocks have none, so their heads can only be averaged.

    Attributes:
        text_first: whether the text's tokens come before the image's.
        packed: whether each image's tokens follow its own text without a gap, filled up behind to the batch's longest.
        stacks: names of the denoiser's lists of blocks, in forward order.
    """

    text_first: ClassVar[bool] = True
    packed: ClassVar[bool] = False
    stacks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)

    @classmethod
    def find_layers(cls, denoiser: Any) -> tuple[str, ...]:
        return tuple(f"{stack}.{index}" for stack in cls.stacks for index in range(len(getattr(denoiser, stack))))

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        return derive_by_flux(layers)

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        return {"joint": self.denoiser.get_submodule(layer).attn}

    def reference_module(self) -> nn.Module:
        return self.attention_modules(self.reference_layer)["joint"]

    def reference_features(
        self, output: Any, grid: Grid, calls: Mapping[str, AttentionCall], image: int
    ) -> Float[Tensor, "pixels channels"]:
        """The image tokens of what the attention module returns: first of (image, text), or both in one sequence."""
        if isinstance(output, tuple):
            return output[0][image]
        return output[image, self.image_tokens(self.count_tokens(calls["joint"], image), grid)]

    def count_tokens(self, call: AttentionCall, image: int) -> int:
        """Length of one image's sequence, text and image together."""
        if self.packed and call.mask is not None:
            return int(call.mask[image].sum())
        return call.key.shape[2]

    def image_tokens(self, count: int, grid: Grid) -> slice:
        """Which of ``count`` tokens are the image's."""
        pixels = grid[0] * grid[1]
        return slice(count - pixels, count) if self.text_first else slice(0, pixels)

    def text_tokens(self, count: int, grid: Grid) -> slice | list[int]:
        """Which of ``count`` tokens are the text's; their order is that of the recorded tokens."""
        pixels = grid[0] * grid[1]
        return slice(0, count - pixels) if self.text_first else slice(pixels, count)

    def mu(self, latents: Float[Tensor, "batch channels height width"]) -> float | None:
        """Linear in the number of image tokens, as FLUX's pipeline has it."""
        config = self.pipeline.scheduler.config
        if not config.use_dynamic_shifting:
            return None
        height, width = self.patch_grid(*latents.shape[-2:])
        shape = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        return calculate_shift(height * width, *shape)

    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> JointRecord:
        call = calls["joint"]
        count = self.count_tokens(call, image)
        if call.query.shape[2] != call.key.shape[2] or count <= grid[0] * grid[1]:
            check_pixels(layer, grid, (call.query.shape[2],))
        own, text = self.image_tokens(count, grid), self.text_tokens(count, grid)
        mask = None if self.packed else call.additive_mask(image, own.start)
        projection = output_projection(self.attention_modules(layer)["joint"])
        return JointRecord(
            name=layer,
            grid=grid,
            cross_query=call.query[image][:, own],
            cross_key=call.key[image][:, text],
            cross_value=call.value[image][:, text] if projection is not None else None,
            projection=projection,
            image_key=call.key[image][:, own],
            cross_mask=None if mask is None else mask[text] - mask[own.start],  # the record's image keys add nothing
            cross_scale=call.scale,
        )


def derive_by_flux(layers: tuple[str, ...]) -> Settings:
    """For joint attention; gives FLUX.1's 57 blocks (double, then single) the published settings.

    Of n blocks, counted from 0, the reference is number 27/56 (n - 1), rounded; numbers 12/56 (n - 1) and 18/56 (n - 1)
    refine; order 2; t = 179; heads averaged.
    """
    last = len(layers) - 1
    refine = dict.fromkeys(layers[round(part / 56 * last)] for part in (12, 18))
    return Settings(layers[round(27 / 56 * last)], tuple(refine), refine_order=2, timestep=179, head_rule="average")
