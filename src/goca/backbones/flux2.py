"""FLUX.2 dev and klein: FLUX.1's blocks, with single ones that project attention and MLP together, and a chat template
around the text, which comes before the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.flux import FluxBackbone
from goca.backbones.hooks import AttentionCall, watch_output
from goca.backbones.latents import not_its_own
from goca.backbones.noise import Timestep
from goca.backbones.settings import SEPARATE
from goca.text.spans import TokenSpans, read_offsets, read_template
from goca.types import Grid


class Flux2Backbone(FluxBackbone):
    """Layers, grids and noise are FLUX.1's: the published fit of the schedule's shift is FLUX.1's from 200 steps on.

    Latents are those that the pipeline makes 2 x 2 patches of, normalised as it normalises the patches.
    """

    pipelines = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline")
    guidance: ClassVar = {"Flux2KleinPipeline": SEPARATE}  # the others are distilled

    @property
    def tokenizer(self) -> Any:
        return getattr(self.pipeline.tokenizer, "tokenizer", self.pipeline.tokenizer)  # dev has it in a processor

    @property
    def max_tokens(self) -> int:
        return self.pipeline.tokenizer_max_length

    def token_spans(self, text: str) -> list[TokenSpans]:
        tokenizer, around = self.tokenizer, read_template(self._write_chat)
        begun = tokenizer.bos_token is not None and around[0].startswith(tokenizer.bos_token)
        options = {"padded": tokenizer.padding_side, "add_special_tokens": not begun}
        return [read_offsets(tokenizer, text, self.max_tokens, around=around, **options)]

    def _write_chat(self, text: str) -> str:
        """What the pipeline has tokenized in place of ``text``."""
        if hasattr(self.pipeline, "system_message"):
            messages = format_input([text], self.pipeline.system_message)[0]
            return self.pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        return self.pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def encode_latents(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Normalised as patches, by statistics that only this family's VAE has."""
        if not hasattr(self.pipeline.vae, "bn"):
            raise ValueError(not_its_own(self.pipeline.vae))
        return self.pipeline._unpatchify_latents(self.pipeline._encode_vae_image(images, None))

    def watch_reference(self, receive: Callable[[Any], object]) -> AbstractContextManager[None]:
        if self._reference_is_fused:
            projection = self.denoiser.get_submodule(f"{self.reference_layer}.attn.to_out")
            return watch_output(projection, receive, given=True)
        return super().watch_reference(receive)

    def reference_features(
        self, output: Any, grid: Grid, calls: Mapping[str, AttentionCall], image: int
    ) -> Float[Tensor, "pixels channels"]:
        """In a single block, the attention's part of what is projected together."""
        if self._reference_is_fused:
            output = output[..., : self.denoiser.inner_dim]
        return super().reference_features(output, grid, calls, image)

    @property
    def _reference_is_fused(self) -> bool:
        return self.reference_layer.startswith("single")

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        embeddings, _ = self.pipeline.encode_prompt(
            list(texts), device=self.device, max_sequence_length=self.max_tokens
        )
        return Conditioning(embeddings)

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        pipeline, batch = self.pipeline, len(latents)
        patches = pipeline._patchify_latents(latents)
        time = self.noise_level(timestep, latents).time
        tokens = self.denoiser(
            hidden_states=pipeline._pack_latents(patches),
            encoder_hidden_states=conditioning.embeddings,
            timestep=torch.full((batch,), time, device=latents.device, dtype=latents.dtype) / 1000,
            guidance=torch.ones(batch, dtype=torch.float32, device=latents.device)
            if self.denoiser.config.guidance_embeds
            else None,
            txt_ids=pipeline._prepare_text_ids(conditioning.embeddings).to(latents.device),
            img_ids=pipeline._prepare_latent_ids(patches).to(latents.device),
            return_dict=False,
        )[0]
        return pipeline._unpatchify_latents(tokens.transpose(1, 2).unflatten(2, patches.shape[2:]))
