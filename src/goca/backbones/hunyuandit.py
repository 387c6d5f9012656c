"""HunyuanDiT: blocks with cross-attention to BERT's 77 tokens and then mT5's 256."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid
from jaxtyping import Float
from torch import Tensor

from goca.backbones.base import Conditioning
from goca.backbones.cross import CrossAttentionBackbone
from goca.backbones.noise import Timestep
from goca.backbones.settings import JOINED, Settings
from goca.text.spans import TokenSpans, read_offsets

ORIGINAL_SIZE = (1024, 1024)  # what the stock pipeline says of the training image, in pixels
BASE_SIZE = 512  # side in pixels whose positions the rotary embedding was made for


class HunyuanDiTBackbone(CrossAttentionBackbone):
    """Layers are named like ``blocks.25``; all have the grid of the patches.

    Padding is replaced by learned features and not masked, so it stays among the tokens. The reference query is taken
    before its normalisation and rotary embedding.
    """

    pipelines = ("HunyuanDiTPipeline",)
    guidance: ClassVar = {"HunyuanDiTPipeline": JOINED}
    stack = "blocks"
    unused_parts: ClassVar = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    @staticmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """Of n blocks the reference is block 5/8 n, blocks from n / 2 up to 3/4 n refine; order 4, t = 81, heads
        averaged. For 40 blocks these are the published settings."""
        count = len(layers)
        refine = layers[count // 2 : max(3 * count // 4, count // 2 + 1)]
        return Settings(layers[5 * count // 8], refine, refine_order=4, timestep=81, head_rule="average")

    @property
    def max_tokens(self) -> int:
        return self.denoiser.config.text_len_t5

    def token_spans(self, text: str) -> list[TokenSpans]:
        bert = self.denoiser.config.text_len
        t5 = read_offsets(self.pipeline.tokenizer_2, text, self.max_tokens, start=bert)
        return [read_offsets(self.tokenizer, text, bert), t5]

    @torch.no_grad()
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        (bert, bert_mask), (t5, t5_mask) = (
            self.pipeline.encode_prompt(
                list(texts),
                device=self.device,
                dtype=self.dtype,
                do_classifier_free_guidance=False,
                max_sequence_length=longest,
                text_encoder_index=index,
            )[0:3:2]
            for index, longest in enumerate((self.denoiser.config.text_len, self.max_tokens))
        )
        return Conditioning(bert, bert_mask, {"encoder_hidden_states_t5": t5, "text_embedding_mask_t5": t5_mask})

    @torch.no_grad()
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        batch, channels, height, width = latents.shape
        grid = self.patch_grid(height, width)
        config = self.denoiser.config
        region = get_resize_crop_region_for_grid(grid, BASE_SIZE // 8 // config.patch_size)
        dim = self.denoiser.inner_dim // self.denoiser.num_heads
        size = (height * self.vae_factor, width * self.vae_factor)
        prediction = self.denoiser(
            latents,
            torch.full((batch,), float(timestep), device=latents.device, dtype=latents.dtype),
            encoder_hidden_states=conditioning.embeddings,
            text_embedding_mask=conditioning.mask,
            image_meta_size=torch.tensor([*ORIGINAL_SIZE, *size, 0, 0]).to(latents).repeat(batch, 1),
            style=torch.zeros(batch, dtype=torch.int64, device=latents.device),
            image_rotary_emb=get_2d_rotary_pos_embed(dim, region, grid, device=latents.device, output_type="pt"),
            return_dict=False,
            **conditioning.extra,
        )[0]
        return prediction[:, :channels]  # the learned variance stands behind
