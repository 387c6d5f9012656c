"""What the maps cost over one call of the denoiser alone, at true size with random weights: per attention layer.

    python benchmarks/denoiser.py flux-dev [--rounds 3]

``goca bench`` measures the same with the autoencoder and the text encoders around it, which hides part of the overhead.
Latents are random; plain, exact and fast runs take turns in one process, and a ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from goca.bench import CLASSES, load_for_bench
from goca.method import PRESETS
from goca.segmenter import Segmenter


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="sd15, sdxl, pixart-sigma or flux-dev")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    exact = Segmenter(load_for_bench(arguments.model, True), PRESETS["paper"])
    fast = Segmenter(exact.model, PRESETS["paper"], fast=True)
    backbone, spec = exact.model.backbone, exact.model.spec
    with torch.inference_mode():
        image = torch.zeros(1, 3, backbone.size_multiple * 4, backbone.size_multiple * 4)
        channels, pixels = backbone.encode_image(image).shape[1], spec.image_size // backbone.vae_factor
    latents = torch.randn(1, channels, pixels, pixels, generator=torch.Generator().manual_seed(0))
    prompt = exact.prompt(list(CLASSES))
    conditioning = exact.encode_prompts([prompt.text])
    fast.encode_prompts([prompt.text])
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: backbone.denoise(latents, spec.timestep, conditioning),
        "exact": lambda: exact.score(latents, [prompt], [exact.method]),
        "fast": lambda: fast.score(latents, [prompt], [fast.method]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for done in range(arguments.rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if done:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    plain = statistics.median(seconds["plain"])
    layers = len(backbone.layers)
    print(f"{arguments.model}: {layers} attention layers, {spec.image_size} px, plain {plain:.1f} s")
    for name in ("exact", "fast"):
        ratio = statistics.median(b / a for a, b in zip(seconds["plain"], seconds[name], strict=True))
        more = statistics.median(b - a for a, b in zip(seconds["plain"], seconds[name], strict=True))
        print(f"{name}: {ratio:.2f} x, {more:+.1f} s, {more / layers:+.2f} s a layer")


if __name__ == "__main__":
    main()
