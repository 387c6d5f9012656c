"""What goca adds to the start of a process: CPU time (user and system) of fresh processes over the stock pipeline's.

    python benchmarks/startup.py [--rounds 7]

All commands take turns; a ratio is the median over the rounds of a command's time over the stock one's in the same
round. The processes get one thread each, because a thread that waits for another one counts as CPU time too.
Exit code 1 where a ratio is above its goal, or where ``import goca`` or ``goca --help`` loads torch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from goca.datasets.scenes import make_scene
from goca.models.specs import MODELS

MODEL = "scenes-dit"
STOCK = "stock"
GOALS = {"Segmenter.from_pretrained": 1.1, "goca segment": 1.2}
WITHOUT_TORCH = {
    "import goca": "import goca",
    "goca --help": "from goca.cli import app; app(['--help'], standalone_mode=False)",
    "goca models": "from goca.cli import app; app(['models'], standalone_mode=False)",
}


def commands(folder: Path) -> dict[str, list[str]]:
    """What is timed, each a program of its own."""
    spec = MODELS[MODEL]
    image = folder / "scene.png"
    make_scene(0, 0, spec.image_size).image.save(image)
    pipeline = spec.pipelines[0]
    stock = f"from diffusers import {pipeline}; {pipeline}.from_pretrained({spec.source!r})"
    load = f"from goca import Segmenter; Segmenter.from_pretrained({MODEL!r})"
    options = ["--model", MODEL, "--classes", "dog,grass,sky", "--out", str(folder / "out"), "--overwrite"]
    return {
        STOCK: [sys.executable, "-c", stock],
        "Segmenter.from_pretrained": [sys.executable, "-c", load],
        "goca segment": [sys.executable, "-m", "goca", "segment", str(image), *options],
    }


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one process and its children."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def loads_torch(code: str) -> bool:
    """Whether torch is there after ``code`` has run in a fresh process."""
    check = f"import sys\n{code}\nsys.exit(9 if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True)
    if done.returncode not in (0, 9):
        raise RuntimeError(f"{code!r} failed: {done.stderr.decode()}")
    return done.returncode == 9


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(Path(folder))
        rounds = [{name: cpu_seconds(command) for name, command in timed.items()} for _ in range(arguments.rounds + 1)]
    rounds = rounds[1:]  # the first reads the files from disk
    print(f"{STOCK}: {statistics.median(each[STOCK] for each in rounds):.2f} s of CPU ({len(rounds)} rounds)")
    missed = False
    for name, goal in GOALS.items():
        ratio = statistics.median(each[name] / each[STOCK] for each in rounds)
        missed |= ratio > goal
        print(f"{name}: {ratio:.2f} x (goal {goal} x)")
    for name, code in WITHOUT_TORCH.items():
        with_torch = loads_torch(code)
        missed |= with_torch
        print(f"{name}: {'loads torch' if with_torch else 'without torch'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
