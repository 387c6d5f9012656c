"""From images to the latents that a denoiser takes: what the many autoencoders of diffusers give back, and how it is
scaled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "batch channels *grid"]


def encode(vae: Any, images: Float[Tensor, "batch 3 *image"]) -> Latents:
    """The mode of an autoencoder's posterior; the latent itself where it has none (tiny ones, Sana's).

    Raises:
        ValueError: it gives something else.
    """
    output = vae.encode(images)
    if hasattr(output, "latent_dist"):
        return output.latent_dist.mode()
    for name in ("latents", "latent"):
        if hasattr(output, name):
            return getattr(output, name)
    raise ValueError(f"goca cannot read the latents of {type(vae).__name__}; give the pipeline the VAE it came with")


def not_its_own(vae: Any) -> str:
    """The sentence for a family whose latents are normalised by statistics that its own autoencoder carries."""
    return (
        f"{type(vae).__name__} lacks the statistics by which this family's latents are normalised; give the pipeline "
        "the VAE it came with"
    )


def scale(vae: Any, latents: Latents) -> Latents:
    """(latent - shift) * scale as the configuration has them; where it has a mean and a deviation for each channel,
    (latent - mean) * scale / deviation."""
    config = vae.config
    factor = config.get("scaling_factor") or 1.0
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        shape = (1, -1, *(1 for _ in latents.shape[2:]))
        mean, deviation = (latents.new_tensor(each).view(shape) for each in (config.latents_mean, config.latents_std))
        return (latents - mean) * factor / deviation
    return (latents - (config.get("shift_factor") or 0.0)) * factor


@contextmanager
def upcast(vae: Any) -> Iterator[None]:
    """Run an autoencoder whose activations exceed float16 (``force_upcast``, SDXL's) in float32 inside the context;
    afterwards its weights are the very same ones.

    Raises:
        ValueError: its weights are moved about by offloading, where they cannot be converted for a while.
    """
    tensors = [each for each in chain(vae.parameters(), vae.buffers()) if each.dtype == torch.float16]
    if not tensors or not vae.config.get("force_upcast"):
        yield
        return
    if any(each.is_meta for each in tensors) or any(hasattr(module, "_diffusers_hook") for module in vae.modules()):
        raise ValueError(
            "the VAE exceeds float16 and its weights are offloaded layer by layer; convert it before that is enabled: "
            "pipeline.vae.float()"
        )
    kept = [each.data for each in tensors]
    try:
        for each in tensors:
            each.data = each.data.float()
        yield
    finally:
        for each, data in zip(tensors, kept, strict=True):
            each.data = data


def check(latents: Latents, channels: int, vae: str) -> None:
    """Raise ``ValueError`` for latents that the denoiser cannot take, or that are not finite."""
    if latents.shape[1] != channels:
        raise ValueError(
            f"{vae} gives latents of {latents.shape[1]} channels, but the denoiser takes {channels}; give the pipeline "
            "the VAE it came with, and take a denoiser that gets no second image (as those for inpainting do)"
        )
    if not bool(torch.isfinite(latents).all()):
        raise ValueError(f"{vae} gives latents that are not finite; run it in float32: pipeline.vae.float()")


def spatial_factor(vae: Any) -> int:
    """Image pixels per latent pixel, each way.

    Raises:
        ValueError: nothing in the autoencoder says so.
    """
    if hasattr(vae, "spatial_compression_ratio"):
        return int(vae.spatial_compression_ratio)
    if "block_out_channels" in vae.config:
        return 2 ** (len(vae.config.block_out_channels) - 1)
    raise ValueError(f"goca cannot tell how far {type(vae).__name__} shrinks an image; give the pipeline its own VAE")
