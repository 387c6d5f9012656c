"""The ceiling: a network of the embedded models' size, trained on masks: ``python -m goca.zoo.supervised --run
FOLDER``.

It is the UNet's own architecture without text, from clean latents to class scores. It stays outside the package's
weights: nothing in goca uses it; its mIoU stands beside the training-free one in the README.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.evaluation.metrics import ConfusionMatrix
from goca.zoo import architectures as arch
from goca.zoo.data import TRAINING_SEED, load_latents, to_unit
from goca.zoo.train import BATCH, Bfloat16, Optimisers, load_vae, save_weights


def build_network() -> UNet2DConditionModel:
    """The embedded UNet, with one output channel per class."""
    network = arch.build_unet()
    network.conv_out = nn.Conv2d(network.conv_out.in_channels, len(CLASS_NAMES), 3, padding=1)
    return network


def predict(network: nn.Module, latents: Tensor) -> Tensor:
    """Class scores (batch x classes x 32 x 32) of clean latents."""
    text = latents.new_zeros(len(latents), 1, arch.TEXT_WIDTH)
    return network(latents, 0, encoder_hidden_states=text).sample


def train(run: Path, steps: int, bfloat16: bool) -> nn.Module:
    """Cross-entropy against the masks, at the images' resolution; the weights go to ``RUN/supervised.safetensors``."""
    torch.manual_seed(0)
    network = build_network().train()
    network.set_attn_processor(AttnProcessor())  # the fused kernel's backward pass is slow on a CPU
    optimisers = Optimisers([network], steps, bfloat16=bfloat16)
    latents, _ = load_latents(run)
    for step in track(range(steps), "supervised"):
        chosen = np.random.default_rng((11, step)).integers(len(latents), size=BATCH)
        truth = torch.from_numpy(np.stack([make_scene(TRAINING_SEED, int(i)).labels for i in chosen])).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            scores = predict(network, latents[torch.from_numpy(chosen)].float()).float()
        loss = F.cross_entropy(F.interpolate(scores, truth.shape[1:], mode="bilinear"), truth)
        optimisers.descend(loss)
    save_weights(run / "supervised.safetensors", {"network": network})
    return network.eval()


@torch.no_grad()
def evaluate(network: nn.Module, vae: AutoencoderKL, limit: int, seed: int) -> float:
    """mIoU on scenes, classes that are absent from an image left out of the choice, as for the training-free models."""
    matrix = ConfusionMatrix(len(CLASS_NAMES))
    for index in range(limit):
        scene = make_scene(seed, index)
        pixels = torch.from_numpy(np.asarray(scene.image).transpose(2, 0, 1).copy())[None]
        latents = vae.encode(to_unit(pixels)).latent_dist.mode() * vae.config.scaling_factor
        scores = F.interpolate(predict(network, latents), scene.labels.shape, mode="bilinear")[0]
        present = [CLASS_NAMES.index(name) for name in scene.classes]
        matrix.update(np.asarray(present)[scores[present].argmax(dim=0).numpy()], scene.labels)
    return matrix.miou("standard")


def main(
    run: Annotated[Path, typer.Option(help="Folder of the training run; its latents are used.")],
    steps: Annotated[int, typer.Option(help="Training steps of 32 scenes.")] = 300,
    limit: Annotated[int, typer.Option(help="Held-out scenes.")] = 200,
    seed: Annotated[int, typer.Option(help="Series of held-out scenes.")] = 5,
    bfloat16: Bfloat16 = False,
) -> None:
    """Train on masks, then print the mIoU on held-out scenes."""
    network = train(run, steps, bfloat16)
    print(f"supervised, {steps * BATCH} samples: mIoU {evaluate(network, load_vae(run, 'cpu'), limit, seed):.3f}")


if __name__ == "__main__":
    typer.run(main)
