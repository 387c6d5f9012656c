"""A supervised segmentation network for drawn scenes, which measures the images that models draw; segmentation itself
never uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from goca.datasets.scenes import CLASS_NAMES
from goca.models.specs import EMBEDDED_VAE, WEIGHTS

JUDGE = WEIGHTS / "judge"
FOUND = 0.01  # share of the pixels that a class must win


@dataclass(frozen=True)
class Prediction:
    """The network's output for one image.

    Attributes:
        scores: of :data:`goca.datasets.scenes.CLASS_NAMES`.
        features: mean of the network's coarsest maps, 192 numbers.
    """

    scores: Float[Tensor, "classes height width"]
    features: Float[np.ndarray, " channels"]

    def labels(self, names: Sequence[str]) -> Int64[np.ndarray, "height width"]:
        """The best of the named classes in each pixel, as indices into ``names``."""
        return self.scores[[CLASS_NAMES.index(name) for name in names]].argmax(dim=0).numpy()

    def found(self, names: Sequence[str]) -> list[str]:
        """Those of the names that win at least 1% of the pixels against all classes."""
        shares = np.bincount(self.scores.argmax(dim=0).flatten().numpy(), minlength=len(CLASS_NAMES))
        least = FOUND * shares.sum()
        return [name for name in names if shares[CLASS_NAMES.index(name)] >= least]


class SceneParser:
    """Segments drawn scenes, encoded by the embedded models' autoencoder.

    Args:
        network: see :func:`goca.embedded.supervised.build_network`.
        vae: the autoencoder that it was trained with.
    """

    def __init__(self, network: UNet2DConditionModel, vae: AutoencoderKL) -> None:
        self.network, self.vae = network.eval(), vae.eval()

    @classmethod
    def load(cls, folder: Path = JUDGE) -> SceneParser:
        """The repository's network, or the one that ``python -m goca.embedded.supervised`` wrote to a folder.

        Raises:
            ValueError: the folder holds none; wheels leave the repository's out.
        """
        if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
            raise ValueError(
                f"the network that judges drawn scenes is not in {folder}; it is no part of the wheel, so copy the "
                "folder src/goca/embedded/weights/judge of goca's repository there, or install goca from the "
                "repository with pip install -e ."
            )
        options: dict[str, Any] = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
        network = UNet2DConditionModel.from_pretrained(folder, **options)
        return cls(network, AutoencoderKL.from_pretrained(EMBEDDED_VAE, **options))

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Predictions for RGB images of one size, whose sides are multiples of 16."""
        pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        unit = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = self.vae.encode(unit).latent_dist.mode() * self.vae.config.scaling_factor
        coarse: list[Tensor] = []
        watch = self.network.mid_block.register_forward_hook(lambda _module, _inputs, output: coarse.append(output))
        try:
            scores = F.interpolate(predict(self.network, latents), unit.shape[2:], mode="bilinear")
        finally:
            watch.remove()
        features = coarse[0].mean(dim=(2, 3)).numpy()
        return [Prediction(*each) for each in zip(scores, features, strict=True)]


def predict(
    network: UNet2DConditionModel, latents: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch classes height width"]:
    """Class scores of clean latents."""
    text = latents.new_zeros(len(latents), 1, network.config.cross_attention_dim)
    return network(latents, 0, encoder_hidden_states=text).sample
