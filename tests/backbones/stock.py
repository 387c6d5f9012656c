"""Comparing a backbone's calls of its denoiser with those of the stock pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from backbones.test_families import noisy
from torch import Tensor, nn

from goca.backbones import Backbone

Call = dict[str, Any]
HEIGHT, WIDTH = 32, 48


def same(tensor: Tensor) -> Tensor:
    """Latents as most pipelines take and return them."""
    return tensor


def assert_same_as_stock(
    backbone: Backbone,
    texts: Sequence[str],
    batches: Sequence[Sequence[str]] | None = None,
    timestep: int = 150,
    pack: Callable[[Tensor], Tensor] = same,
    unpack: Callable[[Tensor], Tensor] = same,
    **options: Any,
) -> list[Call]:
    """Denoise once, and let the pipeline itself take its last step from the same noise, without guidance: both must
    call the denoiser with the same arguments and end in the same clean latents.

    Args:
        batches: the texts as the pipeline gets them, all at once by default.
        pack: turns latents into what the pipeline takes; ``unpack`` turns back what it returns.
        options: further arguments of the pipeline, ``None`` for those that it does not take; by default it is told the
            noise level.

    Returns:
        the arguments of the backbone's calls, without those that are ``None``.
    """
    latents = noisy(backbone, list(range(len(texts))), height=HEIGHT, width=WIDTH)
    sizes = {"height": HEIGHT, "width": WIDTH, "max_sequence_length": backbone.max_tokens}
    steps = {"num_inference_steps": 1, "sigmas": [timestep / 1000], "guidance_scale": 1.0, "output_type": "latent"}
    told = {name: value for name, value in (sizes | steps | options).items() if value is not None}
    run = partial(backbone.pipeline, **told)
    stock: list[Call] = []
    clean: list[Tensor] = []
    for batch in batches or [texts]:
        given = pack(latents[len(clean) : len(clean) + len(batch)])
        calls, output = watch(backbone.denoiser, partial(run, prompt=list(batch), latents=given))
        stock += calls
        clean += unpack(output.images)
    conditioning = backbone.encode_prompt(texts)
    ours, prediction = watch(backbone.denoiser, lambda: backbone.denoise(latents, timestep, conditioning))
    assert len(ours) == len(stock)
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            torch.testing.assert_close(value, theirs[name], atol=1e-5, rtol=1e-5)
    predicted = backbone.noise_level(timestep, latents).clean(latents, prediction)
    torch.testing.assert_close(predicted, torch.stack(clean), atol=1e-4, rtol=1e-4)
    return ours


def watch(denoiser: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """The arguments by name, those that say something, of each call of ``denoiser`` in ``run``; and its result."""
    calls: list[Call] = []
    signature = inspect.signature(denoiser.forward)

    def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        calls.append({name: value for name, value in given.items() if value is not None and value != {}})

    handle = denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try:
        return calls, run()
    finally:
        handle.remove()
