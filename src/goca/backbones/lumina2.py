"""Lumina-Image 2.0: single-stream blocks over Gemma's tokens, system prompt included, then the image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import SEPARATE
from goca.text.spans import TokenSpans, read_offsets

TEXT_LENGTH = 256
START = " <Prompt Start> "  # between the system prompt and the text


class Lumina2Backbone(JointAttentionBackbone):
    """Layers are named like ``layers.3``; all have the grid of the patches. The refiner blocks before them see only
    one kind of tokens each."""

    pipelines = ("Lumina2Pipeline",)
    guidance: ClassVar = {"Lumina2Pipeline": SEPARATE}
    stacks = ("layers",)
    packed = True

    @property
    def max_tokens(self) -> int:
        return TEXT_LENGTH

    def token_spans(self, text: str) -> list[TokenSpans]:
        around = (self.pipeline.system_prompt + START, "")
        return [read_offsets(self.tokenizer, text, self.max_tokens, around=around)]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, mask, *_ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.max_tokens
        )
        return Conditioning(embeddings, mask)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        time = time_input(self.noise_level(timestep, latents).time, latents)
        return -self.denoiser(
            hidden_states=latents,
            timestep=1 - time / 1000,
            encoder_hidden_states=conditioning.embeddings,
            encoder_attention_mask=conditioning.mask,
            return_dict=False,
        )[0]
