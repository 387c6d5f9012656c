"""What the embedded denoisers learn: to restore noised latents, given their captions.

The unet and the dit predict the clean latent; its squared error over sigma^2 (at most 100) is, up to the scale of the
noised input, that of the velocity, which the mmdit predicts itself, as FLUX.1 does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, FluxPipeline
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from goca.embedded import architectures as arch

ALPHAS: Tensor = DDIMScheduler(**arch.SCHEDULE).alphas_cumprod
Forward = Callable[..., Any]


def flow_levels(rng: np.random.Generator, count: int) -> np.ndarray:
    """Noise levels of a rectified flow, t = sigmoid(N(0.8, 0.8)) in 0 ... 1, so mostly noisy ones."""
    return 1 / (1 + np.exp(-rng.normal(0.8, 0.8, count)))


def matching_timesteps(flow: np.ndarray, alphas: Tensor) -> Tensor:
    """Timesteps of a variance-preserving schedule whose signal-to-noise ratios are those of a flow's levels."""
    signal = torch.from_numpy(((1 - flow) / flow) ** 2 / (((1 - flow) / flow) ** 2 + 1))
    return torch.searchsorted(-alphas.double(), -signal).clamp(max=len(alphas) - 1)


def denoising_loss(
    kind: str,
    text_encoders: nn.ModuleDict,
    tokenizers: Mapping[str, PreTrainedTokenizerBase],
    forward: Forward,
    captions: Sequence[str],
    clean: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    rng: np.random.Generator,
    bfloat16: bool,
) -> Float[Tensor, ""]:
    """Mean error of one batch at random noise levels, see :func:`denoising_errors`."""
    flow = flow_levels(rng, len(clean))
    return denoising_errors(kind, text_encoders, tokenizers, forward, captions, clean, noise, flow, bfloat16).mean()


def denoising_errors(
    kind: str,
    text_encoders: nn.ModuleDict,
    tokenizers: Mapping[str, PreTrainedTokenizerBase],
    forward: Forward,
    captions: Sequence[str],
    clean: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    flow: np.ndarray,
    bfloat16: bool = False,
) -> Float[Tensor, " batch"]:
    """Error of each image of a batch.

    Args:
        kind: "dit", "unet" or "mmdit".
        text_encoders: by the names of the pipeline; so are ``tokenizers``.
        forward: the denoiser, maybe compiled.
        flow: noise level of each image, of a rectified flow; unet and dit take the timesteps of the same ratios.
        bfloat16: compute the models in bfloat16; the errors are float32.
    """
    device = clean.device
    tokens = {
        name: tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").to(device)
        for name, tokenizer in tokenizers.items()
    }
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        if kind == "mmdit":
            level = torch.from_numpy(flow).float().to(device)
            t = level.view(-1, 1, 1, 1)
            text = text_encoders["text_encoder_2"](input_ids=tokens["tokenizer_2"].input_ids)[0]
            pooled = text_encoders["text_encoder"](input_ids=tokens["tokenizer"].input_ids).pooler_output
            velocity = _joint_forward(forward, (1 - t) * clean + t * noise, level, text, pooled)
            return (velocity.float() - _pack(noise - clean)).square().mean(dim=(1, 2))
        timesteps = matching_timesteps(flow, ALPHAS)
        alpha = ALPHAS[timesteps].view(-1, 1, 1, 1).to(device)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        ids, mask = tokens["tokenizer"].input_ids, tokens["tokenizer"].attention_mask
        extra = {"attention_mask": mask} if kind == "dit" else {}
        text = text_encoders["text_encoder"](input_ids=ids, **extra)[0]
        extra = {"encoder_attention_mask": mask} if kind == "dit" else {}
        predicted = forward(noisy, encoder_hidden_states=text, timestep=timesteps.to(device), **extra).sample
    return ((predicted.float() - clean).square() / (1 - alpha).clamp(min=0.01)).mean(dim=(1, 2, 3))


def clean_errors(kind: str, errors: Float[Tensor, " batch"], flow: np.ndarray) -> Float[Tensor, " batch"]:
    """Squared errors of the predicted clean latent from :func:`denoising_errors`; these compare across families."""
    if kind == "mmdit":
        return errors * torch.from_numpy(flow).square().to(errors)
    return errors * (1 - ALPHAS[matching_timesteps(flow, ALPHAS)]).clamp(min=0.01).to(errors)


def _joint_forward(forward: Forward, noisy: Tensor, level: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    batch, _, height, width = noisy.shape
    return forward(
        hidden_states=_pack(noisy),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=level,
        img_ids=FluxPipeline._prepare_latent_image_ids(batch, height // 2, width // 2, noisy.device, noisy.dtype),
        txt_ids=noisy.new_zeros(text.shape[1], 3),
    ).sample


def _pack(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)
