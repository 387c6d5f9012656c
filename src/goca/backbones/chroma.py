"""Chroma: FLUX's blocks without its guidance and CLIP; padding of T5's text is weighed down by a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.flux import FluxBackbone
from goca.backbones.settings import SEPARATE

T5_LENGTH = 512


class ChromaBackbone(FluxBackbone):
    """Layers, grid and image tokens are FLUX's.

    The mask is handed to the denoiser as the pipeline builds it: a number on each token, which diffusers 0.42 adds to
    the attention's scores, so that padding counts e times less but is not left out.
    """

    pipelines = ("ChromaPipeline",)
    guidance: ClassVar = {"ChromaPipeline": SEPARATE}

    @property
    def tokenizer(self) -> Any:
        return self.pipeline.tokenizer

    @property
    def max_tokens(self) -> int:
        return min(T5_LENGTH, self.tokenizer.model_max_length)

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _, mask, *_ = self.pipeline.encode_prompt(
            self.respell(texts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.max_tokens,
        )
        return Conditioning(embeddings, mask)

    def conditions(
        self, latents: Float[Tensor, "batch channels height width"], conditioning: Conditioning
    ) -> dict[str, Any]:
        height, width = self.patch_grid(*latents.shape[-2:])
        mask = self.pipeline._prepare_attention_mask(
            len(latents), height * width, latents.dtype, attention_mask=conditioning.mask
        )
        return {"attention_mask": mask}
