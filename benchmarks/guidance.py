"""What guidance by regions costs over plain classifier-free guidance, per step of the same stock pipeline.

    python benchmarks/guidance.py scenes-dit scenes-unet scenes-mmdit [--steps 12] [--rounds 9]
    python benchmarks/guidance.py sd15 --random-weights --steps 3 --rounds 3

The pipeline is called for latents, so the time is the text encoder's and the steps'. All settings take turns in one
process; a ratio is the median over the rounds of a setting's time over plain guidance's in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from goca.bench import CLASSES, load_for_bench
from goca.guidance.generate import Generator
from goca.segmenter import Segmenter

SETTINGS = {"cfg": ("cfg", 1), "goca": ("goca", 1), "goca, masks every third step": ("goca", 3), "s-cfg": ("s-cfg", 1)}


def seconds(make: Generator) -> float:
    """Of one image, without decoding it."""
    pipeline = make.segmenter.model.pipeline
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    with make.guide():
        pipeline(prompt=", ".join(CLASSES), generator=generator, output_type="latent", **make.options())
    return time.perf_counter() - start


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    for name in arguments.models:
        segmenter = Segmenter(load_for_bench(name, arguments.random_weights))
        makers = {
            title: Generator(segmenter, kind, steps=arguments.steps, every=every)
            for title, (kind, every) in SETTINGS.items()
        }
        times: dict[str, list[float]] = {title: [] for title in makers}
        for done in range(arguments.rounds + 1):
            for title, make in makers.items():
                spent = seconds(make)
                if done:  # the first round warms up
                    times[title].append(spent)
        plain = statistics.median(times["cfg"]) / arguments.steps
        print(f"{name}: plain {plain:.3f} s a step ({arguments.steps} steps, {arguments.rounds} rounds)")
        for title in list(makers)[1:]:
            ratio = statistics.median(b / a for a, b in zip(times["cfg"], times[title], strict=True))
            print(f"  {title}: {ratio:.2f} x", flush=True)


if __name__ == "__main__":
    main()
