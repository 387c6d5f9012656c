"""Stable Diffusion XL and what shares its UNet: Turbo, Lightning, Playground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.learned_words import read_expanded_offsets
from goca.backbones.settings import JOINED, Settings
from goca.backbones.unet import UNetBackbone
from goca.text.spans import TokenSpans


class SDXLBackbone(UNetBackbone):
    """A UNet whose two CLIP encoders see the same tokens; their features stand side by side in width."""

    pipelines = ("StableDiffusionXLPipeline",)
    guidance: ClassVar = {"StableDiffusionXLPipeline": JOINED}
    unused_parts: ClassVar = {"feature_extractor": None, "image_encoder": None}

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """The reference is the first block of the last up stage that has attention. The first two blocks of its
        attentions refine, of the last one only the first, and so do those of the first attention on the way down; order
        2. These are SDXL's published settings."""
        stage = next(layer for layer in reversed(layers) if layer.startswith("up_blocks")).split(".attentions.")[0]
        attentions: dict[str, list[str]] = {}
        for layer in layers:
            attentions.setdefault(layer.split(".transformer_blocks.")[0], []).append(layer)
        up = [blocks for name, blocks in attentions.items() if name.startswith(stage)]
        down = next(iter(attentions.values()))
        refine = [*(block for blocks in up[:-1] for block in blocks[:2]), up[-1][0], *down[:2]]
        return Settings(up[0][0], tuple(refine), refine_order=2)

    def token_spans(self, text: str) -> list[TokenSpans]:
        """Of both encoders' tokens, which share their places.

        Raises:
            ValueError: they do not, because only one of the tokenizers has a learned word.
        """
        first, second = (
            read_expanded_offsets(self.pipeline, tokenizer, self.respell([text])[0], self.max_tokens)
            for tokenizer in (self.pipeline.tokenizer, self.pipeline.tokenizer_2)
        )
        if first != second:
            raise ValueError(
                f"the two tokenizers of the pipeline make different tokens of {text[:60]!r}; load learned words into "
                "both: pipeline.load_textual_inversion(..., tokenizer=pipeline.tokenizer_2)"
            )
        return [first]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _, pooled, _ = self.pipeline.encode_prompt(
            self.respell(texts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return Conditioning(embeddings, extra={"text_embeds": pooled})

    def conditions(
        self, latents: Float[Tensor, "batch channels height width"], conditioning: Conditioning
    ) -> dict[str, Tensor]:
        """The pooled text, and the image's sizes before and after a crop that leaves nothing out."""
        size = [side * self.vae_factor for side in latents.shape[-2:]]
        times = torch.tensor([*size, 0, 0, *size]).to(conditioning.embeddings).expand(len(latents), 6)
        return {**conditioning.extra, "time_ids": times}
