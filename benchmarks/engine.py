"""The streaming engine against the literal method on SD 1.5's 16 layers at 512 px: time and peak memory.

    python benchmarks/engine.py [--size 512] [--skip-literal]

Each runs in a process of its own; the peak is the whole process's, libraries and recordings included. The literal one
is tests/reference.py in float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sys
import time
from pathlib import Path

import torch

from goca.maps import MapAggregator
from goca.memory import peak_mib
from goca.types import LayerRecord

ROOT = Path(__file__).resolve().parent.parent
HEADS, TOKENS, ORDER = 8, 77, 2
# (pixels per side at 512 px, head width): down 0-2, mid, up 1-3
SD15 = (
    [(64, 40)] * 2 + [(32, 80)] * 2 + [(16, 160)] * 2 + [(8, 160)] + [(16, 160)] * 3 + [(32, 80)] * 3 + [(64, 40)] * 3
)
REFERENCE, REFINE = "layer11", ("layer13", "layer14", "layer2")


def load(path: Path):
    """A module by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def recordings(size: int) -> list[LayerRecord]:
    """Random recordings of SD 1.5's shapes."""
    generator, make = torch.Generator().manual_seed(0), load(ROOT / "tests" / "records.py").random_record
    return [
        make(f"layer{index}", (side * size // 512,) * 2, HEADS, dim, TOKENS, generator)
        for index, (side, dim) in enumerate(SD15)
    ]


def streaming(records: list[LayerRecord], side: int) -> torch.Tensor:
    """Token maps and three maps refined twice, by the engine."""
    names = [record.name for record in records]
    aggregator = MapAggregator(
        "dot-product w/o clamp", "dot-product similarity", (side, side), names, REFERENCE, REFINE, ORDER
    )
    for record in records:
        aggregator.add(record)
    found = aggregator.finish()
    maps = found.token_maps[:3]
    for _ in range(ORDER):
        assert found.refiner is not None
        maps = found.refiner(maps)
    return maps


def literal(records: list[LayerRecord], side: int) -> torch.Tensor:
    """The same, everything written out."""
    rules = ("dot-product w/o clamp", "dot-product similarity")
    found = load(ROOT / "tests" / "reference.py").aggregate(
        records, *rules, (side, side), REFERENCE, REFINE, dtype=torch.float32
    )
    columns = found.token_maps[:3].flatten(1).T
    for _ in range(ORDER):
        columns = found.refiner @ columns
    return columns.T.unflatten(1, (side, side))


def measure(name: str, size: int, answer: multiprocessing.SimpleQueue) -> None:
    """Seconds, peak MiB of the process and the maps of one of the two."""
    with torch.no_grad():
        records = recordings(size)
        run = {"streaming": streaming, "literal": literal}[name]
        run(recordings(64), 8)  # first calls load kernels
        start = time.perf_counter()
        maps = run(records, size // 8)
        answer.put((time.perf_counter() - start, peak_mib(), maps.numpy()))


def main() -> None:
    """Print both, their ratios and their largest relative difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="image side in pixels, a multiple of 64 (default 512)")
    parser.add_argument("--skip-literal", action="store_true", help="measure only the streaming engine")
    arguments = parser.parse_args()
    context, results = multiprocessing.get_context("spawn"), {}
    for name in ["streaming"] if arguments.skip_literal else ["streaming", "literal"]:
        answer = context.SimpleQueue()
        process = context.Process(target=measure, args=(name, arguments.size, answer))
        process.start()
        results[name] = answer.get()
        process.join()
        print(f"{name:<10} {results[name][0]:7.2f} s {results[name][1]:8.0f} MiB")
    if "literal" in results:
        fast, slow = results["streaming"], results["literal"]
        difference = abs(fast[2] - slow[2]).max() / abs(slow[2]).max()
        print(f"streaming takes {fast[0] / slow[0]:.2f} of the time and {fast[1] / slow[1]:.2f} of the memory")
        print(f"largest difference of the maps, over the largest value: {difference:.0e}")


if __name__ == "__main__":
    main()
