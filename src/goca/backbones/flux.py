"""FLUX.1 dev and schnell: double-stream, then single-stream blocks of joint attention; T5 tokens before the image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import FluxPipeline
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import GuidanceLayout

LONGEST = {True: 512, False: 256}  # tokens of T5, by whether guidance is embedded (dev) or not (schnell)


class FluxBackbone(JointAttentionBackbone):
    """Layers are named like ``transformer_blocks.3`` and ``single_transformer_blocks.8``; all have the grid of the
    packed latents."""

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    guidance: ClassVar = {"FluxPipeline": GuidanceLayout(joined=False, argument="true_cfg_scale", negative="")}
    stacks = ("transformer_blocks", "single_transformer_blocks")
    patch_size = 2  # the pipeline packs the latents; the denoiser's own patches are of 1

    @property
    def tokenizer(self) -> Any:
        return self.pipeline.tokenizer_2

    @property
    def max_tokens(self) -> int:
        return min(LONGEST[self.denoiser.config.guidance_embeds], self.tokenizer.model_max_length)

    @property
    def latent_channels(self) -> int:
        return self.denoiser.config.in_channels // self.patch_size**2

    @property
    def image_size(self) -> int:
        return self.pipeline.default_sample_size * self.vae_factor

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, pooled, _ = self.pipeline.encode_prompt(
            self.respell(texts), None, device=self.device, max_sequence_length=self.max_tokens
        )
        return Conditioning(embeddings, extra={"pooled_projections": pooled})

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        batch, channels, height, width = latents.shape
        rows, columns = self.patch_grid(height, width)
        time = time_input(self.noise_level(timestep, latents).time, latents).to(latents.dtype)
        tokens = self.denoiser(
            hidden_states=FluxPipeline._pack_latents(latents, batch, channels, height, width),
            encoder_hidden_states=conditioning.embeddings,
            timestep=time / 1000,
            txt_ids=latents.new_zeros(conditioning.embeddings.shape[1], 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(batch, rows, columns, latents.device, latents.dtype),
            joint_attention_kwargs=self._image_prompt(),
            return_dict=False,
            **self.conditions(latents, conditioning),
        )[0]
        return FluxPipeline._unpack_latents(tokens, height, width, vae_scale_factor=1)

    def _image_prompt(self) -> dict[str, Any] | None:
        """None of an IP-Adapter's, where one is loaded."""
        loaded = getattr(self.denoiser, "encoder_hid_proj", None) is not None
        return {"ip_hidden_states": []} if loaded else None

    def conditions(
        self, latents: Float[Tensor, "batch channels height width"], conditioning: Conditioning
    ) -> dict[str, Any]:
        """Inputs of the denoiser besides time, positions and the text's tokens."""
        guided = self.denoiser.config.guidance_embeds
        return {**conditioning.extra, "guidance": latents.new_ones(len(latents)) if guided else None}
