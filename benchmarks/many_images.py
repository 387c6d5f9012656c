"""What `goca segment FOLDER` costs over a plain loop of forwards, what memory it takes, and what kills do to it.

    python benchmarks/many_images.py [--images 1000] [--kills 5] [--only time|kills]

Time: the command's own call, `segment_many`, on all images with preset paper and the default formats. After every 25 it
waits while the plain loop reads the same 25 images and sends them through the same pipeline (the text is encoded once),
so that both have the machine's same moments. Memory: the resident size of that process after a tenth of the images and
at its end. Kills: the command in a process of its own, killed at random moments and continued; every file of its folder
is compared with an undisturbed run's. Exit code 1 where the time is above its goal or a file differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from goca import Segmenter
from goca.datasets.scenes import make_scene
from goca.images import read_image
from goca.segment_many import JOURNAL, segment_many

MODEL, PRESET, CLASSES = "scenes-dit", "paper", ("dog", "grass", "sky")
CHUNK = 25
GOAL = 1.35


def plain_loop(segmenter: Segmenter) -> Callable[[str], torch.Tensor]:
    """From the path of an image to what the denoiser predicts of it; nothing is recorded."""
    backbone, timestep = segmenter.model.backbone, segmenter.model.spec.exact_timestep
    conditioning = backbone.encode_prompt([", ".join(CLASSES)])

    @torch.no_grad()
    def forward(path: str) -> torch.Tensor:
        latents = segmenter.encode([read_image(path)])
        noisy = backbone.add_noise(latents, timestep, [torch.Generator().manual_seed(0)])
        return backbone.denoise(noisy, timestep, conditioning)

    return forward


class Clock:
    """Seconds of wall and processor by what runs; one thing at a time."""

    def __init__(self) -> None:
        self.last = (time.perf_counter(), time.process_time())

    def lap(self) -> tuple[float, float]:
        """Wall and processor seconds since the last lap."""
        before, self.last = self.last, (time.perf_counter(), time.process_time())
        return self.last[0] - before[0], self.last[1] - before[1]


def measure(paths: list[str], out: Path) -> dict[str, float]:
    """Time and memory of one run, with the plain loop in its pauses."""
    segmenter = Segmenter.from_pretrained(MODEL, method=PRESET)
    forward, clock = plain_loop(segmenter), Clock()
    for path in paths[:CHUNK]:
        forward(path)
        segmenter(path, list(CLASSES))
    laps: list[tuple[tuple[float, float], tuple[float, float]]] = []
    sizes: list[float] = []

    def pause(done: int, total: int) -> None:
        sizes.append(psutil.Process().memory_info().rss / 2**20)
        if done and (done % CHUNK == 0 or done == total):
            ours = clock.lap()
            for path in paths[len(laps) * CHUNK : done]:
                forward(path)
            laps.append((ours, clock.lap()))

    clock.lap()
    segment_many(segmenter, paths, list(CLASSES), out, progress=pause)
    wall, processor = ([[ours[kind], plain[kind]] for ours, plain in laps] for kind in (0, 1))
    tenth = len(paths) // 10
    return {
        "images": len(paths),
        "threads": torch.get_num_threads(),
        "images/s": len(paths) / sum(ours for ours, _ in wall),
        "images/s plain": len(paths) / sum(plain for _, plain in wall),
        "ratio": sum(ours for ours, _ in wall) / sum(plain for _, plain in wall),
        "ratio of chunks, median": statistics.median(ours / plain for ours, plain in wall),
        "ratio of processor time": sum(ours for ours, _ in processor) / sum(plain for _, plain in processor),
        f"MiB after {tenth}": sizes[tenth],
        f"MiB after {len(paths)}": sizes[-1],
    }


def command(folder: Path, out: Path) -> list[str]:
    """The command whose kills are counted; it continues what is there."""
    options = ["--model", MODEL, "--preset", PRESET, "--classes", ",".join(CLASSES), "--resume", "--out", str(out)]
    return [sys.executable, "-m", "goca", "segment", str(folder), *options]


def hashes(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finished_images(out: Path) -> int:
    """Lines of the journal but for its head."""
    journal = out / JOURNAL
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def kill(words: list[str], out: Path, seconds: float) -> bool:
    """Start a command and kill it some seconds after its first image; whether it was still running."""
    before = finished_images(out)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and finished_images(out) <= max(before, 0):
            time.sleep(0.1)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def test_kills(folder: Path, scratch: Path, count: int) -> dict[str, object]:
    """Whether a run that was killed and continued ends with an undisturbed run's files."""
    whole, killed, moments = scratch / "whole", scratch / "killed", random.Random(0)
    start = time.perf_counter()
    subprocess.run(command(folder, whole), check=True, capture_output=True)
    lasts = time.perf_counter() - start
    kills, finished = 0, []
    for _ in range(count):
        kills += kill(command(folder, killed), killed, moments.uniform(0, 1.5 / (count + 1)) * lasts)
        finished.append(finished_images(killed))
    subprocess.run(command(folder, killed), check=True, capture_output=True)
    expected, found = hashes(whole), hashes(killed)
    return {
        "kills": kills,
        "images finished at each": finished,
        "files": len(expected),
        "files that differ": sum(expected.get(name) != found.get(name) for name in expected.keys() | found.keys()),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", choices=("time", "kills"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        folder.mkdir()
        for index in range(arguments.images):
            make_scene(11, index, 128).image.save(folder / f"{index:05d}.png")
        if arguments.only != "kills":
            time_and_memory = measure(sorted(map(str, folder.iterdir())), Path(name) / "out")
            missed |= time_and_memory["ratio"] > GOAL
            print(json.dumps({**time_and_memory, "processors": os.cpu_count()}, indent=2), flush=True)
        if arguments.only != "time":
            killed = test_kills(folder, Path(name), arguments.kills)
            missed |= bool(killed["files that differ"])
            print(json.dumps(killed, indent=2))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
