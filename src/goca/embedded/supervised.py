"""The judge: a network of the embedded models' size, trained on masks.

Trained by ``python -m goca.embedded.supervised --run FOLDER``.

It is the UNet's own architecture without text, from clean latents to class scores. It measures the images that models
draw (:mod:`goca.evaluation.generation.scene_parser`), and its mIoU on held-out scenes is the ceiling beside the
training-free ones in the README; segmentation itself never sees a mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from rich.progress import track
from torch import nn
from torch.nn import functional as F

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.embedded import architectures as arch
from goca.embedded.data import TRAINING_SEED, load_latents
from goca.embedded.denoiser import BATCH
from goca.embedded.optimisers import Optimisers
from goca.embedded.train import Bfloat16
from goca.evaluation.generation.scene_parser import JUDGE, SceneParser, predict
from goca.evaluation.metrics import count_pixels, intersection_union, mean_iou


def build_network() -> UNet2DConditionModel:
    """The embedded UNet, with one output channel per class."""
    network = arch.build_unet()
    network.conv_out = nn.Conv2d(network.conv_out.in_channels, len(CLASS_NAMES), 3, padding=1)
    network.register_to_config(out_channels=len(CLASS_NAMES))
    return network


def train(run: Path, steps: int, bfloat16: bool) -> UNet2DConditionModel:
    """Cross-entropy against the masks, at the images' resolution."""
    torch.manual_seed(0)
    network = build_network().train()
    network.set_attn_processor(AttnProcessor())  # the fused kernel's backward pass is slow on a CPU
    optimisers = Optimisers([network], steps, bfloat16=bfloat16)
    latents, _ = load_latents(run)
    for step in track(range(steps), "supervised"):
        chosen = np.random.default_rng((11, step)).integers(len(latents), size=BATCH)
        target = torch.from_numpy(np.stack([make_scene(TRAINING_SEED, int(i)).labels for i in chosen])).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            scores = predict(network, latents[torch.from_numpy(chosen)].float()).float()
        loss = F.cross_entropy(F.interpolate(scores, target.shape[1:], mode="bilinear"), target)
        optimisers.descend(loss)
    return network


def evaluate(judge: SceneParser, limit: int, seed: int) -> float:
    """mIoU on scenes, classes that are absent from an image left out of the choice, as for the training-free models."""
    counts = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), np.int64)
    for index in range(limit):
        scene = make_scene(seed, index)
        present = np.asarray([CLASS_NAMES.index(name) for name in scene.classes])
        predicted = present[judge([scene.image])[0].labels(scene.classes)]
        counts += count_pixels(predicted, scene.labels, len(CLASS_NAMES))
    return mean_iou(intersection_union(counts), "standard")


def main(
    run: Annotated[
        Path | None, typer.Option(help="Folder of a training run, whose latents to train on. Default: only measure.")
    ] = None,
    weights: Annotated[Path, typer.Option(help="Folder that training writes and that is measured.")] = JUDGE,
    steps: Annotated[int, typer.Option(help="Training steps of 32 scenes.")] = 300,
    limit: Annotated[int, typer.Option(help="Held-out scenes.")] = 200,
    seed: Annotated[int, typer.Option(help="Series of held-out scenes.")] = 5,
    bfloat16: Bfloat16 = False,
) -> None:
    """Train on masks where a run is given, then print the mIoU on held-out scenes."""
    if run is not None:
        train(run, steps, bfloat16).half().save_pretrained(weights)
    print(f"the judge in {weights}: mIoU {evaluate(SceneParser.load(weights), limit, seed):.3f}")


if __name__ == "__main__":
    typer.run(main)
