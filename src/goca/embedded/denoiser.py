"""Train a denoiser together with its text encoders: the one loop behind the shipped models and the scaling study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from rich.progress import Progress
from torch import nn
from torch.optim.swa_utils import AveragedModel

from goca.embedded import architectures as arch
from goca.embedded.checkpoints import append_log, save_weights, write_checkpoint
from goca.embedded.data import load_latents, write_caption
from goca.embedded.objectives import denoising_loss
from goca.embedded.optimisers import Optimisers, update_average
from goca.storage.atomic import write_atomically
from goca.storage.json_reader import read_json_lines

BATCH = 32
CHECKPOINT_EVERY = 100
LOG_EVERY = 50


@dataclass(frozen=True)
class Training:
    """One training of a denoiser.

    Attributes:
        kind: "dit", "unet" or "mmdit".
        steps: of :data:`BATCH` samples.
        snapshots: numbers of steps after which the averaged weights are kept, besides the last.
        size: arguments of the family's builder, see :func:`goca.embedded.architectures.build_model`.
        seed: of the initial weights, the order of the samples, the captions and the noise.
        device: "cpu" or "cuda".
        bfloat16: compute the models in bfloat16; weights, loss and optimizers stay in float32.
        compile_model: compile the denoiser.
    """

    kind: str
    steps: int
    snapshots: Collection[int]
    size: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    compile_model: bool = False


def train(plan: Training, latents_folder: Path, folder: Path) -> None:
    """Train, or go on at the checkpoint in ``folder``, on the latents that lie in ``latents_folder``.

    Writes ``checkpoint.pt``, ``log.jsonl`` and ``snapshots/SAMPLES.safetensors`` (float16 averaged weights).
    """
    torch.manual_seed(plan.seed)
    tokenizers, model = arch.build_tokenizers(plan.kind), build_trainable(plan)
    denoiser: Any = model[arch.DENOISERS[plan.kind]]
    average = AveragedModel(model, multi_avg_fn=update_average)
    optimisers = Optimisers(model.values(), plan.steps, bfloat16=plan.bfloat16)
    latents, classes = load_latents(latents_folder)
    checkpoint, log = folder / "checkpoint.pt", folder / "log.jsonl"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        first = state["step"]
        optimisers.load_state_dict(state, first)
    drop_later_entries(log, first * BATCH)
    forward: Callable[..., Any] = torch.compile(denoiser) if plan.compile_model else denoiser
    started, window = time.monotonic(), []
    with Progress() as progress:
        task = progress.add_task(plan.kind, total=plan.steps, completed=first)
        for step in range(first, plan.steps):
            rng = np.random.default_rng((7 + plan.seed, step))
            chosen = rng.integers(len(latents), size=BATCH)
            captions = [write_caption(classes[i], rng) for i in chosen]
            clean = latents[torch.from_numpy(chosen)].float().to(plan.device)
            generator = torch.Generator().manual_seed(plan.seed * 1_000_000 + step)
            noise = torch.randn(clean.shape, generator=generator).to(plan.device)
            loss = denoising_loss(plan.kind, model, tokenizers, forward, captions, clean, noise, rng, plan.bfloat16)
            optimisers.descend(loss)
            average.update_parameters(model)
            window.append(loss.item())
            progress.advance(task)
            done = step + 1
            if done % LOG_EVERY == 0 or done == plan.steps:
                rate = (done - first) * BATCH / (time.monotonic() - started)
                append_log(log, {"samples": done * BATCH, "loss": float(np.mean(window)), "per_second": rate})
                window.clear()
            if done in plan.snapshots or done == plan.steps:
                parts = dict(average.module.named_children())
                save_weights(folder / "snapshots" / f"{done * BATCH:07d}.safetensors", parts)
            if done % CHECKPOINT_EVERY == 0 or done == plan.steps:
                weights = {"model": model.state_dict(), "average": average.state_dict()}
                write_checkpoint(checkpoint, {**weights, **optimisers.state_dict(), "step": done})


def build_trainable(plan: Training) -> nn.ModuleDict:
    """The model with fresh weights on its device, with the attention whose backward pass is the fastest there."""
    model = arch.build_model(plan.kind, **plan.size).to(plan.device).train()
    if plan.device == "cpu" and plan.kind != "mmdit":  # the fused kernel's backward pass takes longer than all else
        denoiser: Any = model[arch.DENOISERS[plan.kind]]
        denoiser.set_attn_processor(AttnProcessor())
    return model


def drop_later_entries(log: Path, samples: int) -> None:
    """Remove what an interrupted training has logged after its last checkpoint."""
    if log.exists():
        kept = [entry for entry in read_json_lines(log) if entry["samples"] <= samples]
        write_atomically(log, "".join(f"{json.dumps(entry)}\n" for entry in kept))
