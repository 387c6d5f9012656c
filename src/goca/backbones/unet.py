"""UNets with cross-attention and one CLIP text encoder: Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goca.backbones.base import Backbone, Conditioning
from goca.types import Grid

STAGES = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}


class UNetBackbone(Backbone):
    """Layers are named like ``up_blocks.2.attentions.1.transformer_blocks.0``; grids shrink, then grow."""

    @property
    def denoiser(self) -> Any:
        return getattr(self.pipeline.unet, "_orig_mod", self.pipeline.unet)

    @staticmethod
    def find_layers(denoiser: Any) -> tuple[str, ...]:
        names = [name for name, _ in denoiser.named_modules() if re.search(r"\.transformer_blocks\.\d+$", name)]
        return tuple(sorted(names, key=lambda name: STAGES[name.split(".")[0]]))

    @property
    def max_tokens(self) -> int:
        return self.tokenizer.model_max_length

    @property
    def size_multiple(self) -> int:
        return self.vae_factor

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _ = self.pipeline.encode_prompt(
            list(texts), self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(embeddings)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: int, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        steps = torch.full((len(latents),), timestep, device=latents.device)
        return self.denoiser(latents, steps, encoder_hidden_states=conditioning.embeddings, return_dict=False)[0]

    def watch_grids(self, grids: dict[str, Grid], layers: Collection[str]) -> list[torch.utils.hooks.RemovableHandle]:
        by_owner: dict[str, list[str]] = {}
        for layer in layers:
            by_owner.setdefault(layer.rsplit(".transformer_blocks.", 1)[0], []).append(layer)

        def watch(owner: str) -> torch.utils.hooks.RemovableHandle:
            def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                height, width = inputs[0].shape[-2:]
                grids.update(dict.fromkeys(by_owner[owner], (height, width)))

            return self.denoiser.get_submodule(owner).register_forward_pre_hook(note)

        return [watch(owner) for owner in by_owner]
