"""AuraFlow: joint, then single-stream blocks; learned register tokens, T5's tokens, then the image's."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
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
IMAGE_SIZE = 1024


class AuraFlowBackbone(JointAttentionBackbone):
    """Layers are named like ``joint_transformer_blocks.3`` and ``single_transformer_blocks.8``; all have the grid of
    the patches. The recorded tokens begin with the registers, which stand for no word."""

    pipelines = ("AuraFlowPipeline",)
    guidance: ClassVar = {"AuraFlowPipeline": JOINED}
    stacks = ("joint_transformer_blocks", "single_transformer_blocks")

    @property
    def max_tokens(self) -> int:
        return min(T5_LENGTH, self.tokenizer.model_max_length)

    @property
    def image_size(self) -> int:
        """What the pipeline draws unless told otherwise."""
        return min(IMAGE_SIZE, self.longest_side)

    @property
    def longest_side(self) -> int:
        """Image pixels that the learned positions cover, each way."""
        return isqrt(self.denoiser.config.pos_embed_max_size) * self.size_multiple

    def encode_image(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """As for every family.

        Raises:
            ValueError: a side is no multiple of :attr:`size_multiple`, or longer than :attr:`longest_side`.
        """
        height, width = images.shape[-2:]
        if max(height, width) > self.longest_side:
            raise ValueError(
                f"The image is {height} x {width} pixels; this model knows places up to {self.longest_side} each way: "
                "take a smaller size."
            )
        return super().encode_image(images)

    def token_spans(self, text: str) -> list[TokenSpans]:
        registers = self.denoiser.register_tokens.shape[1]
        return [read_offsets(self.tokenizer, text, self.max_tokens, start=registers)]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, *_ = self.pipeline.encode_prompt(
            list(texts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.max_tokens,
        )
        return Conditioning(embeddings)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        time = time_input(self.noise_level(timestep, latents).time, latents) / 1000
        return self.denoiser(
            latents,
            encoder_hidden_states=conditioning.embeddings,
            timestep=time.to(latents.dtype),
            return_dict=False,
        )[0]
