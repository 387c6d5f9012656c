"""Calls from several threads, and what a call must leave as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of the calls, each in its own thread, which start at the same time."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def state(pipeline: Any) -> list[Any]:
    """What a call must leave as it was."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    named = [(name, module) for part in modules for name, module in part.named_modules()]
    hooks = [(name, list(each._forward_hooks), list(each._forward_pre_hooks)) for name, each in named]
    processors = [
        (name, each.processor, dict(vars(each.processor))) for name, each in named if hasattr(each, "processor")
    ]
    training = [module.training for _, module in named]
    grads = [parameter.requires_grad for part in modules for parameter in part.parameters()]
    return [type(pipeline), vars(pipeline).get("_progress_bar_config"), hooks, processors, training, grads]
