"""Random attention records for tests and benchmarks, with the statistics of real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goca.types import CrossRecord, Grid, JointRecord, LayerRecord, OutputProjection


def random_record(
    name: str,
    grid: Grid,
    heads: int,
    dim: int,
    tokens: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    joint: bool = False,
    masked: int = 0,
) -> LayerRecord:
    """One block's record with references; ``masked`` last tokens are hidden by a mask."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    pixels, channels = grid[0] * grid[1], heads * dim
    mask = torch.zeros(tokens)
    mask[tokens - masked :] = -1e4
    shared = {
        "name": name,
        "grid": grid,
        "cross_query": normal(heads, pixels, dim),
        "cross_key": normal(heads, tokens, dim),
        "cross_value": normal(heads, tokens, dim),
        "projection": OutputProjection(normal(channels, channels) * channels**-0.5),
        "cross_mask": mask if masked else None,
        "reference": normal(pixels, channels),
    }
    own_key = normal(heads, pixels, dim)
    if joint:
        return JointRecord(**shared, image_key=own_key)
    return CrossRecord(**shared, self_query=normal(heads, pixels, dim), self_key=own_key)


def random_records(
    grids: Sequence[Grid], seed: int = 0, heads: int = 2, dim: int = 8, tokens: int = 7, **options
) -> list[LayerRecord]:
    """Records ``layer0``, ``layer1``, ... on the given grids."""
    generator = torch.Generator().manual_seed(seed)
    return [
        random_record(f"layer{index}", grid, heads, dim, tokens, generator, **options)
        for index, grid in enumerate(grids)
    ]
