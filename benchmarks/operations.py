"""What two choices inside the engine rest on: how much of the scores is formed at a time, and how maps are smoothed.

    python benchmarks/operations.py [--rounds 9]

Each line takes turns with its rival in one process; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from goca.maps import attention
from goca.maps.rescale import blur

SHAPES = {  # heads, rows, keys, head width
    "PixArt-Sigma, 1024 px": (16, 4096, 4096, 72),
    "SDXL, 1024 px": (10, 4096, 4096, 64),
    "FLUX, 1024 px, 1,024 rows": (24, 1024, 4608, 128),
}
BUDGETS = {"512 KiB": 2**17, "2 MiB": 2**19, "8 MiB": 2**21}
MAPS = [(18, 16, 16), (27, 64, 64), (150, 64, 64)]


def compare(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round but the first, which warms up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for done in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if done:
                times[name].append(time.perf_counter() - start)
    return times


def tell(title: str, times: dict[str, list[float]]) -> None:
    """One line: the first entry's median, and the others as ratios to it."""
    first, *others = times
    ratios = [
        f"{name} {statistics.median(b / a for a, b in zip(times[first], times[name], strict=True)):.2f} x"
        for name in others
    ]
    print(f"{title}: {first} {statistics.median(times[first]) * 1e3:.2f} ms, {', '.join(ratios)}", flush=True)


def mean_map(each: attention.Attention, budget: int) -> None:
    """All rows of the head-mean attention, a block at a time."""
    attention.BLOCK_SCORES_CPU = budget
    for first, last in each.blocks(each.query.shape[1]):
        each.mean_rows(slice(first, last))


def convolution(maps: torch.Tensor) -> torch.Tensor:
    """What :func:`goca.maps.rescale.blur` gives, as a convolution."""
    axis = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * 1.1**2))
    kernel = (axis[:, None] * axis / axis.sum() ** 2)[None, None]
    return F.conv2d(F.pad(maps[:, None], (2, 2, 2, 2), mode="reflect"), kernel)[:, 0]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for title, (heads, rows, keys, dim) in SHAPES.items():
        query, key = torch.randn(heads, rows, dim), torch.randn(heads, keys, dim)
        each = attention.Attention(query, key, slice(None), dim**-0.5)
        tell(title, compare({name: partial(mean_map, each, budget) for name, budget in BUDGETS.items()}, rounds))
    for shape in MAPS:
        maps = torch.rand(shape)
        assert torch.allclose(convolution(maps), blur(maps), atol=1e-6)
        title = f"blur of {shape[0]} maps of {shape[1]} x {shape[2]}"
        tell(title, compare({"convolution": partial(convolution, maps), "matrices": partial(blur, maps)}, rounds * 10))


if __name__ == "__main__":
    main()
