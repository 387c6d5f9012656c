"""Qwen-Image: double-stream blocks of joint attention; Qwen's tokens, without those of the system message, then the
image's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from diffusers import QwenImagePipeline
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.hooks import AttentionCall
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.latents import encode, not_its_own, scale
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import GuidanceLayout
from goca.text.spans import TokenSpans, read_offsets, read_template
from goca.types import Grid, JointRecord

TEXT_LENGTH = 512


class QwenImageBackbone(JointAttentionBackbone):
    """Layers are named like ``transformer_blocks.3``; all have the grid of the packed latents. Latents have no axis of
    frames here."""

    pipelines = ("QwenImagePipeline",)
    guidance: ClassVar = {"QwenImagePipeline": GuidanceLayout(joined=False, argument="true_cfg_scale", negative=" ")}

    @property
    def max_tokens(self) -> int:
        return TEXT_LENGTH

    @property
    def latent_channels(self) -> int:
        return self.denoiser.config.in_channels // self.patch_size**2

    @property
    def image_size(self) -> int:
        return self.pipeline.default_sample_size * self.vae_factor

    def token_spans(self, text: str) -> list[TokenSpans]:
        dropped = self.pipeline.prompt_template_encode_start_idx
        around = read_template(self.pipeline.prompt_template_encode.format)
        return [read_offsets(self.tokenizer, text, self.max_tokens + dropped, start=-dropped, around=around)]

    def encode_latents(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The VAE is one of videos, of which an image is one frame."""
        if not self.pipeline.vae.config.get("latents_mean"):
            raise ValueError(not_its_own(self.pipeline.vae))
        frames = encode(self.pipeline.vae, images.unsqueeze(2))
        return scale(self.pipeline.vae, frames).squeeze(2)

    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> JointRecord:
        """Without the masked places that fill a shorter text up to the batch's longest."""
        record = super().read(layer, grid, calls, image)
        if record.cross_mask is None:
            return record
        own = int((record.cross_mask == 0).sum())
        assert record.cross_value is not None
        return replace(
            record, cross_key=record.cross_key[:, :own], cross_value=record.cross_value[:, :own], cross_mask=None
        )

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        return Conditioning(
            *self.pipeline.encode_prompt(list(texts), device=self.device, max_sequence_length=self.max_tokens)
        )

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        batch, channels, height, width = latents.shape
        time = time_input(self.noise_level(timestep, latents).time, latents).to(latents.dtype)
        tokens = self.denoiser(
            hidden_states=QwenImagePipeline._pack_latents(latents, batch, channels, height, width),
            encoder_hidden_states=conditioning.embeddings,
            encoder_hidden_states_mask=conditioning.mask,
            timestep=time / 1000,
            img_shapes=[[(1, *self.patch_grid(height, width))]] * batch,
            return_dict=False,
        )[0]
        return QwenImagePipeline._unpack_latents(tokens, height, width, vae_scale_factor=1).squeeze(2)
