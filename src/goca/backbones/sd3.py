"""Stable Diffusion 3 and 3.5: blocks of joint attention; the image's tokens, then CLIP's, then T5's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import JOINED
from goca.text.spans import TokenSpans, read_offsets

T5_LENGTH = 256


class SD3Backbone(JointAttentionBackbone):
    """Layers are named like ``transformer_blocks.3``; all have the grid of the patches.

    Both CLIP encoders' features stand side by side in one range of tokens; T5's tokens follow, or zeros where the
    pipeline has no T5. SD 3.5 medium's second attention, of the image to itself, is not recorded.
    """

    pipelines = ("StableDiffusion3Pipeline",)
    guidance: ClassVar = {"StableDiffusion3Pipeline": JOINED}
    optional_parts = ("text_encoder_3", "tokenizer_3")
    text_first = False

    @property
    def t5_tokens(self) -> int:
        """Length of T5's range, or of the zeros in its place."""
        return T5_LENGTH if self._without_t5 else min(T5_LENGTH, self.pipeline.tokenizer_3.model_max_length)

    @property
    def max_tokens(self) -> int:
        return self.tokenizer.model_max_length if self._without_t5 else self.t5_tokens

    @property
    def _without_t5(self) -> bool:
        return self.pipeline.text_encoder_3 is None

    def token_spans(self, text: str) -> list[TokenSpans]:
        clip_tokens = self.tokenizer.model_max_length
        clip = read_offsets(self.tokenizer, text, clip_tokens)
        if self._without_t5:
            return [clip]
        return [clip, read_offsets(self.pipeline.tokenizer_3, text, self.t5_tokens, start=clip_tokens)]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _, pooled, _ = self.pipeline.encode_prompt(
            list(texts),
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.t5_tokens,
        )
        return Conditioning(embeddings, extra={"pooled_projections": pooled})

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        return self.denoiser(
            hidden_states=latents,
            encoder_hidden_states=conditioning.embeddings,
            timestep=time_input(self.noise_level(timestep, latents).time, latents),
            return_dict=False,
            **conditioning.extra,
        )[0]
