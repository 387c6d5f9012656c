"""Whether a denoiser computes what it was trained to: all of it, anew, over every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from torch import nn

from goca.backbones.turns import calling, walk
from goca.types import Grid


def refuse_caches(denoiser: nn.Module) -> None:
    """Raise ``ValueError`` where diffusers' hooks reuse results of earlier calls: first-block cache, pyramid attention
    broadcast, FasterCache and the like."""
    for module in walk(denoiser):
        hooks = getattr(vars(module).get("_diffusers_hook"), "hooks", {})
        for hook in hooks.values():
            if getattr(hook, "_is_stateful", False):
                raise ValueError(
                    f"the denoiser reuses results of earlier calls ({type(hook).__name__}); switch that cache off: "
                    "pipeline.transformer.disable_cache()"
                )


@contextmanager
def whole_forward(modules: Mapping[str, nn.Module], left_early: bool = False) -> Iterator[None]:
    """Watch one call of the denoiser inside the context.

    Args:
        modules: run by every forward, in this order.
        left_early: the forward ends after some of them.

    Raises:
        ValueError: on leaving, one of them did not run.
    """
    ran: set[str] = set()
    caller = calling()

    def note(name: str, _module: nn.Module, _inputs: object) -> None:
        if calling() is caller:
            ran.add(name)

    handles = [module.register_forward_pre_hook(partial(note, name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    names = list(modules)
    last = max((index for index, name in enumerate(names) if name in ran), default=-1)
    skipped = next((name for name in (names[: last + 1] if left_early else names) if name not in ran), None)
    if skipped is not None:
        raise ValueError(
            f"{skipped} of the denoiser did not run, so results of earlier calls took its place; switch that cache off "
            "(DeepCache, TeaCache and the like)"
        )


def check_pixels(layer: str, grid: Grid, counts: Iterable[int]) -> None:
    """Raise ``ValueError`` where the attention of a layer runs over another number of pixels than its grid has."""
    wrong = next((count for count in counts if count != grid[0] * grid[1]), None)
    if wrong is not None:
        raise ValueError(
            f"the attention of {layer} sees {wrong} tokens instead of {grid[0]} x {grid[1]} pixels: something merges "
            "or splits them (ToMe, HyperTile); take it out, for example with tomesd.remove_patch(pipeline)"
        )
