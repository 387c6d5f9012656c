"""Sana: transformers with linear self-attention and cross-attention to Gemma, on latents 32 times smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.cross import CrossAttentionBackbone, derive_by_depth
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import JOINED, Settings
from goca.text.spans import TokenSpans, read_offsets

TEXT_LENGTH = 300


class SanaBackbone(CrossAttentionBackbone):
    """Layers are named like ``transformer_blocks.9``; all have the grid of the patches.

    Linear self-attention has no softmax and so no map: only cross-attention is recorded, every layer gets the same
    weight, and nothing refines the class maps. Half of GoCA is missing here; heads are weighed and maps rescaled as
    everywhere.
    """

    pipelines = ("SanaPipeline",)
    guidance: ClassVar = {"SanaPipeline": JOINED}
    self_maps = False

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """PixArt's, without what needs self-attention maps. At timestep 100 Sana's schedule (shift 3) and PixArt's have
        the same ratio of signal to noise, 3 to 1."""
        return replace(derive_by_depth(layers), refine_layers=(), refine_order=0, layer_rule="vanilla")

    @property
    def max_tokens(self) -> int:
        return TEXT_LENGTH

    @property
    def instruction(self) -> list[str]:
        """Lines that the stock pipeline writes before every text, so that Gemma thinks of the image's details."""
        calls = (signature(each.__call__).parameters for each in type(self.pipeline).__mro__)
        return next(call["complex_human_instruction"].default for call in calls if "complex_human_instruction" in call)

    def token_spans(self, text: str) -> list[TokenSpans]:
        """Of Gemma's tokens the denoiser sees the first, which is special, and then those from the place of the
        instruction's last one on; that is a space, which becomes part of the text's first word."""
        before = "\n".join(self.instruction)
        dropped = len(self.tokenizer.encode(before)) - 2
        return [read_offsets(self.tokenizer, text, dropped + self.max_tokens, start=-dropped, around=(before, ""))]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, mask, _, _ = self.pipeline.encode_prompt(
            list(texts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.max_tokens,
            complex_human_instruction=self.instruction,
        )
        return Conditioning(embeddings.to(self.dtype), mask)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        time = self.noise_level(timestep, latents).time
        if "FlowMatch" not in type(self.pipeline.scheduler).__name__:
            time = float(int(time))  # as DPM-Solver does, which Sana comes with
        prediction = self.denoiser(
            latents,
            encoder_hidden_states=conditioning.embeddings,
            encoder_attention_mask=conditioning.mask,
            timestep=time_input(time * self.denoiser.config.timestep_scale, latents),
            return_dict=False,
        )[0]
        return prediction[:, : latents.shape[1]]  # models that also learn the variance put it behind
