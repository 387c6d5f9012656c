"""Stable Diffusion XL and Kolors, which has its UNet."""

import pytest
import tiny
import torch
from backbones.stock import watch
from backbones.test_families import noisy

from goca.models import wrap

TEXTS = ["cat, grass", "a dog"]


@pytest.mark.parametrize("family", ["sdxl", "kolors"])
def test_denoiser_is_told_what_the_pipeline_tells_it(family: str) -> None:
    backbone = wrap("tiny", tiny.FAMILIES[family].build()).backbone
    size = {"height": 32, "width": 48}
    latents = noisy(backbone, [0, 1], **size)
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent", **size}
    (stock,), _ = watch(backbone.denoiser, lambda: backbone.pipeline(prompt=TEXTS, latents=latents, **options))
    timestep = int(stock["timestep"])
    conditioning = backbone.encode_prompt(TEXTS)
    (ours,), _ = watch(backbone.denoiser, lambda: backbone.denoise(latents, timestep, conditioning))
    torch.testing.assert_close(ours["encoder_hidden_states"], stock["encoder_hidden_states"])
    for name in ("text_embeds", "time_ids"):
        torch.testing.assert_close(ours["added_cond_kwargs"][name], stock["added_cond_kwargs"][name])
    assert ours["timestep"].tolist() == [timestep] * 2
