"""Diffusion transformers with cross-attention to T5: PixArt-alpha and PixArt-Sigma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.cross import CrossAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import JOINED

TEXT_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


class DiTBackbone(CrossAttentionBackbone):
    """Layers are named like ``transformer_blocks.13``; all have the grid of the patches."""

    pipelines = tuple(TEXT_LENGTHS)
    guidance: ClassVar = {"PixArtAlphaPipeline": JOINED, "PixArtSigmaPipeline": JOINED}

    @property
    def max_tokens(self) -> int:
        return min(TEXT_LENGTHS[self.pipeline_class], self.tokenizer.model_max_length)

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, mask, _, _ = self.pipeline.encode_prompt(
            list(texts),
            do_classifier_free_guidance=False,
            device=self.device,
            clean_caption=False,
            max_sequence_length=self.max_tokens,
        )
        return Conditioning(embeddings, mask)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        prediction = self.denoiser(
            latents,
            encoder_hidden_states=conditioning.embeddings,
            encoder_attention_mask=conditioning.mask,
            timestep=time_input(timestep, latents),
            added_cond_kwargs=self._micro_conditions(latents),
            return_dict=False,
        )[0]
        return prediction[:, : latents.shape[1]]  # models that also learn the variance put it behind

    def _micro_conditions(self, latents: Float[Tensor, "batch channels height width"]) -> dict[str, Tensor | None]:
        """Resolution in pixels and aspect ratio, for PixArt-alpha models of 1024 pixels; ``None`` for others."""
        if not self.denoiser.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        batch, _, height, width = latents.shape
        resolution = torch.tensor([height * self.vae_factor, width * self.vae_factor])
        ratio = torch.tensor([height / width], dtype=torch.float32)
        return {
            "resolution": resolution.expand(batch, 2).to(latents),
            "aspect_ratio": ratio.expand(batch, 1).to(latents),
        }
