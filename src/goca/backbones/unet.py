"""UNets with cross-attention and one CLIP text encoder: Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goca.backbones.base import Conditioning
from goca.backbones.cross import CrossAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import JOINED, Settings
from goca.types import Grid

STAGES = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}


class _NoImage(nn.Module):
    """In the place of an IP-Adapter's projection: there is no image prompt."""

    def forward(self, image_embeds: None) -> list[Tensor]:
        return []


@contextmanager
def text_alone(denoiser: Any) -> Iterator[dict[str, Any]]:
    """Leave an IP-Adapter's image prompt out inside the context, so that cross-attention sees the text alone; gives
    what the denoiser must be told besides."""
    if denoiser.config.encoder_hid_dim_type != "ip_image_proj":
        yield {}
        return
    projection = denoiser.encoder_hid_proj
    denoiser.encoder_hid_proj = _NoImage()
    try:
        yield {"image_embeds": None}
    finally:
        denoiser.encoder_hid_proj = projection


def _forward_order(name: str) -> tuple[int, ...]:
    """Stage, block, place in it, resnets before attentions, then the place in the attention."""
    stage, *rest = name.split(".")
    numbers = [int(part) for part in re.findall(r"\d+", name)]
    block = numbers.pop(0) if stage != "mid_block" else 0
    return STAGES[stage], block, numbers[0], "attentions" in rest, *numbers[1:]


class UNetBackbone(CrossAttentionBackbone):
    """Layers are named like ``up_blocks.2.attentions.1.transformer_blocks.0``; grids shrink, then grow."""

    pipelines = ("StableDiffusionPipeline",)
    guidance: ClassVar = {"StableDiffusionPipeline": JOINED}
    patch_size = 1
    denoiser_name = "unet"
    unused_parts: ClassVar = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    @staticmethod
    def find_layers(denoiser: Any) -> tuple[str, ...]:
        names = [name for name, _ in denoiser.named_modules() if re.search(r"\.transformer_blocks\.\d+$", name)]
        return tuple(sorted(names, key=lambda name: STAGES[name.split(".")[0]]))

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """The reference is the first block of the middle attention of the next-to-last up block that has attention (the
        last where there is only one); the last up block's attentions but its last refine, and so does the last
        attention of the first down block; order 2."""
        stages: dict[str, list[str]] = {}
        for layer in layers:
            if layer.endswith(".transformer_blocks.0"):
                stages.setdefault(layer.split(".attentions.")[0], []).append(layer)
        up = [blocks for stage, blocks in stages.items() if stage.startswith("up_blocks")]
        middle = up[-2] if len(up) > 1 else up[-1]
        refine = (*(up[-1][:-1] or up[-1]), *stages.get("down_blocks.0", [])[-1:])
        return Settings(middle[len(middle) // 2], refine, refine_order=2)

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _ = self.pipeline.encode_prompt(
            self.respell(texts),
            self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return Conditioning(embeddings)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        steps = time_input(timestep, latents)
        with text_alone(self.denoiser) as added:
            return self.denoiser(
                latents,
                steps,
                encoder_hidden_states=conditioning.embeddings,
                added_cond_kwargs={**added, **self.conditions(latents, conditioning)},
                return_dict=False,
            )[0]

    def conditions(
        self, latents: Float[Tensor, "batch channels height width"], conditioning: Conditioning
    ) -> dict[str, Tensor]:
        """Further inputs of the denoiser."""
        return {}

    @cached_property
    def _resnets(self) -> tuple[str, ...]:
        """Names of the residual blocks."""
        return tuple(name for name, _ in self.denoiser.named_modules() if re.fullmatch(r".*\.resnets\.\d+", name))

    def steady_modules(self) -> dict[str, nn.Module]:
        """The first convolution of each residual block, too: blocks without attention may be kept as well."""
        found = {name: self.denoiser.get_submodule(name).conv1 for name in self._resnets}
        return dict(sorted({**found, **super().steady_modules()}.items(), key=lambda each: _forward_order(each[0])))

    def grid(self, layer: str, height: int, width: int) -> Grid:
        """Each stage down halves the sides and rounds up; the stages up come back the same way."""
        stages = len(self.denoiser.config.block_out_channels)
        part, _, rest = layer.partition(".")
        index = int(rest.split(".")[0]) if part != "mid_block" else 0
        level = {"down_blocks": index, "mid_block": stages - 1, "up_blocks": stages - 1 - index}[part]
        return -(-height // 2**level), -(-width // 2**level)
