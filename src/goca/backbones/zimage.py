"""Z-Image: single-stream blocks over the image's tokens, then the caption's, each filled up to a multiple of 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from goca.backbones.base import Conditioning
from goca.backbones.joint import JointAttentionBackbone
from goca.backbones.noise import Timestep, time_input
from goca.backbones.settings import GuidanceLayout
from goca.text.spans import TokenSpans, read_offsets, read_template
from goca.types import Grid

TEXT_LENGTH = 512
LATENT_SIZE = 128  # latent pixels, each way, of what the pipeline draws unless told otherwise


class ZImageBackbone(JointAttentionBackbone):
    """Layers are named like ``layers.3``; all have the grid of the patches. The refiner blocks before them see only
    one kind of tokens each.

    The tokens that fill up the image are recorded behind the caption's; they stand for no word.
    """

    pipelines = ("ZImagePipeline",)
    guidance: ClassVar = {"ZImagePipeline": GuidanceLayout(negative_first=False, offset=1.0)}
    stacks = ("layers",)
    text_first = False
    packed = True
    patch_size = 2

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        return {"joint": self.denoiser.get_submodule(layer).attention}

    def text_tokens(self, count: int, grid: Grid) -> slice | list[int]:
        pixels = grid[0] * grid[1]
        filled = pixels + -pixels % SEQ_MULTI_OF
        if filled == pixels:
            return slice(pixels, count)
        return [*range(filled, count), *range(pixels, filled)]

    @property
    def max_tokens(self) -> int:
        return TEXT_LENGTH

    @property
    def image_size(self) -> int:
        return LATENT_SIZE * self.vae_factor

    def token_spans(self, text: str) -> list[TokenSpans]:
        return [read_offsets(self.tokenizer, text, self.max_tokens, around=read_template(self._write_chat))]

    def _write_chat(self, text: str) -> str:
        """What the pipeline has tokenized in place of ``text``."""
        messages = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
        )

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _ = self.pipeline.encode_prompt(
            list(texts), self.device, do_classifier_free_guidance=False, max_sequence_length=self.max_tokens
        )
        seen = [each.new_ones(len(each), dtype=torch.bool) for each in embeddings]
        return Conditioning(pad_sequence(embeddings, batch_first=True), pad_sequence(seen, batch_first=True))

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        assert conditioning.mask is not None
        time = time_input(self.noise_level(timestep, latents).time, latents)
        predictions = self.denoiser(
            list(latents.unsqueeze(2)),
            (1000 - time) / 1000,
            [tokens[seen] for tokens, seen in zip(conditioning.embeddings, conditioning.mask, strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(predictions).squeeze(2)
