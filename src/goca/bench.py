"""What segmentation costs over one plain forward of the same pipeline: ``goca bench MODEL``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from goca._safe_path import child_command
from goca.datasets.scenes import make_scene
from goca.memory import peak_mib
from goca.method import PRESETS
from goca.models import LoadedModel, load
from goca.segmenter import Segmenter

MODES = ("plain", "goca", "fast")
REPEATS = 15
ENOUGH_SECONDS = 60.0
CLASSES = ("dog", "grass", "sky")


def bench(
    model: str, *, random_weights: bool = False, size: int | None = None, repeats: int = REPEATS
) -> dict[str, Any]:
    """Time and peak memory of segmenting one image against a plain forward (encode text and image, one denoiser call).

    Exact ("goca") and fast mode are measured. Time: all in one process, in turn, ``repeats`` times after a warm-up
    (fewer once :data:`ENOUGH_SECONDS` have passed, but at least twice); a ratio is the median of the ratios of
    neighbours. Memory: the largest resident size of a fresh process for each. The method is the preset ``paper``: one
    forward; presets that average several views cost that many forwards.

    Args:
        random_weights: build the model at its true size without any download (models that have a packaged
            configuration).
        size: side of the image in pixels, the model's own by default.

    Returns:
        ``ratios`` over the plain forward (``time``, ``memory``; ``fast_time``, ``fast_memory``), ``seconds`` and
        ``peak_mib`` of each mode, and what was measured.
    """
    arguments = [model, str(int(random_weights)), str(size or 0), str(repeats)]
    times = _in_process("time", arguments)
    peaks = {mode: _in_process(mode, arguments)["peak_mib"] for mode in MODES}
    ratios = {}
    for mode, prefix in (("goca", ""), ("fast", "fast_")):
        each = [b / a for a, b in zip(times["plain"], times[mode], strict=True)]
        ratios[f"{prefix}time"] = round(statistics.median(each), 3)
        ratios[f"{prefix}memory"] = round(peaks[mode] / peaks["plain"], 3)
    seconds = {mode: round(statistics.median(times[mode]), 4) for mode in MODES}
    return {
        "model": model,
        "size": times["size"],
        "random_weights": random_weights,
        "preset": "paper",
        "threads": times["threads"],
        "repeats": len(times["plain"]),
        "ratios": ratios,
        "seconds": seconds,
        "peak_mib": peaks,
    }


def _in_process(mode: str, arguments: list[str]) -> dict[str, Any]:
    """Measure in a process of its own, so that one measurement's memory is not the other's."""
    command = child_command("goca.bench", [mode, *arguments])
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise ValueError(f"measuring {arguments[0]} failed: {reason.removeprefix('ValueError: ')}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(mode: str, model: str, random_weights: bool, size: int, repeats: int) -> dict[str, Any]:
    """What one process of :func:`bench` does; ``mode`` is "time" or one of :data:`MODES`."""
    segmenter = Segmenter(load_for_bench(model, random_weights), PRESETS["paper"], size=size or None)

    def fresh(fast: bool) -> Segmenter:
        """Without the prompts that an earlier run encoded."""
        return Segmenter(segmenter.model, PRESETS["paper"], fast=fast)

    side = segmenter.model.spec.image_size
    image = make_scene(0, 0, side).image
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_forward(segmenter, image),
        "goca": lambda: fresh(False)(image, list(CLASSES)),
        "fast": lambda: fresh(True)(image, list(CLASSES)),
    }
    if mode != "time":
        runs[mode]()
        return {"peak_mib": round(peak_mib(), 1)}
    for run in runs.values():
        run()
    times: dict[str, Any] = {name: [] for name in runs}
    started = time.perf_counter()
    for done in range(repeats):
        if done >= 2 and time.perf_counter() - started > ENOUGH_SECONDS:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {**times, "size": side, "threads": torch.get_num_threads()}


def load_for_bench(model: str, random_weights: bool) -> LoadedModel:
    """The model to measure."""
    if random_weights:
        from goca.embedded.random_weights import build_random

        return build_random(model)
    return load(model)


@torch.no_grad()
def plain_forward(segmenter: Segmenter, image: Image.Image) -> torch.Tensor:
    """Encode text and image, noise, one denoiser call; nothing is recorded."""
    backbone, spec = segmenter.model.backbone, segmenter.model.spec
    latents = segmenter.encode([image])
    noisy = backbone.add_noise(latents, spec.exact_timestep, [torch.Generator().manual_seed(0)])
    return backbone.denoise(noisy, spec.exact_timestep, backbone.encode_prompt([", ".join(CLASSES)]))


if __name__ == "__main__":
    chosen, name, random_flag, side, count = sys.argv[1:]
    print(json.dumps(measure(chosen, name, bool(int(random_flag)), int(side), int(count))))
