"""CogView4: blocks of joint attention over GLM's tokens, padded in front, and the image's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import ClassVar

import torch
from diffusers.pipelines.cogview4.pipeline_cogview4 import calculate_shift
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from goca.backbones.base import Conditioning
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.noise import NoiseLevel, Timestep, time_input
from goca.backbones.settings import GuidanceLayout
from goca.text.spans import TokenSpans, read_offsets

GLM_LENGTH = 1024
MULTIPLE = 16  # of the padded text's length


class CogView4Backbone(JointAttentionBackbone):
    """Layers are named like ``transformer_blocks.3``; all have the grid of the patches.

    The text encoder and the denoiser look at the padding too, so a text is padded as if it were alone in its batch: to
    the next multiple of 16. Images whose texts differ in that length go through the denoiser one group after the other.
    """

    pipelines = ("CogView4Pipeline",)
    guidance: ClassVar = {"CogView4Pipeline": GuidanceLayout(joined=False, padded_front=True)}

    @property
    def max_tokens(self) -> int:
        return min(GLM_LENGTH, self.tokenizer.model_max_length)

    def token_spans(self, text: str) -> list[TokenSpans]:
        count = min(len(self.tokenizer(text, verbose=False)["input_ids"]), self.max_tokens)
        return [read_offsets(self.tokenizer, text, self.max_tokens, start=-count % MULTIPLE)]

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        return {"joint": self.denoiser.get_submodule(layer).attn1}

    def mu(self, latents: Float[Tensor, "batch channels height width"]) -> float:
        config = self.pipeline.scheduler.config
        height, width = self.patch_grid(*latents.shape[-2:])
        return calculate_shift(height * width, config.base_image_seq_len, config.base_shift, config.max_shift)

    def noise_level(self, timestep: Timestep, latents: Float[Tensor, "batch channels height width"]) -> NoiseLevel:
        """The schedule shifts the noise alone; the denoiser's time input is the timestep before the shift."""
        return replace(super().noise_level(timestep, latents), time=float(timestep))

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        encoded = {text: self._encode(text) for text in dict.fromkeys(texts)}
        embeddings = [encoded[text] for text in texts]
        present = [each.new_ones(len(each), dtype=torch.bool) for each in embeddings]
        stack = partial(pad_sequence, batch_first=True, padding_side="left")
        return Conditioning(stack(embeddings), mask=stack(present))

    def _encode(self, text: str) -> Float[Tensor, "tokens width"]:
        embeddings, _ = self.pipeline.encode_prompt(
            [text], do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.max_tokens
        )
        return embeddings[0]

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        assert conditioning.mask is not None
        time = self.noise_level(timestep, latents).time
        sides = latents.new_tensor(latents.shape[-2:], dtype=conditioning.embeddings.dtype) * self.vae_factor
        predictions: list[Tensor] = []
        for length, group in groupby(range(len(latents)), conditioning.mask.sum(dim=1).tolist().__getitem__):
            images = list(group)
            size = sides.expand(len(images), 2)
            predictions += self.denoiser(
                hidden_states=latents[images],
                encoder_hidden_states=conditioning.embeddings[images, -length:],
                timestep=time_input(time, latents[images]),
                original_size=size,
                target_size=size,
                crop_coords=torch.zeros_like(size),
                return_dict=False,
            )[0]
        return torch.stack(predictions)
