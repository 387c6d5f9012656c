"""How the embedded models learn: two optimizers, their learning rates' schedule, and the weight average."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from goca.embedded.muon import Muon


def trapezoid(step: int, steps: int, warmup: int = 50, decay: float = 0.4) -> float:
    """Factor on the learning rate: up in ``warmup`` steps, flat, then linearly down over the last share ``decay``."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


class Optimisers:
    """Muon for the matrices and kernels of the repeated blocks, AdamW for embeddings, norms, biases, first and last
    layers.

    Args:
        modules: what is trained.
        steps: length of the training, for the learning rates' schedule.
        decay: share of the training over which they fall to zero.
        bfloat16: let Muon iterate in bfloat16.
    """

    def __init__(self, modules: Iterable[nn.Module], steps: int, decay: float = 0.4, bfloat16: bool = False) -> None:
        hidden, self.rest = split_parameters(modules)
        self.optimizers = [
            Muon(hidden, lr=0.01, dtype=torch.bfloat16 if bfloat16 else torch.float32),
            torch.optim.AdamW(self.rest, lr=1e-3, betas=(0.9, 0.99)),
        ]
        self.peaks = [each.param_groups[0]["lr"] for each in self.optimizers]
        self.rate = partial(trapezoid, steps=steps, decay=decay)
        self.step = 0

    def descend(self, loss: Tensor) -> None:
        """One step of every optimizer along the gradient of ``loss``."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.rest, 1.0)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.rate(self.step)
            optimizer.step()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of both optimizers."""
        return {"optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Go on at ``step``; the learning rates are those of the schedule there, whatever its length was before."""
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.step = step


def split_parameters(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels of the repeated blocks for Muon; embeddings, norms, biases, first and last layers for
    AdamW."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            inside = "block" in name and parameter.ndim >= 2 and "scale_shift" not in name and "relative" not in name
            (hidden if inside else rest).append(parameter)
    return hidden, rest


@torch.no_grad()
def update_average(averages: Any, current: Any, count: Tensor | int) -> None:
    """Exponential average over about the last 100 steps, less while there are few, so that the initial weights fade
    quickly."""
    share = max(0.01, 9 / (10 + int(count)))
    torch._foreach_lerp_(averages, current, share)
