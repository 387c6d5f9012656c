"""Files of a training run: weights, checkpoints to resume from, and the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save_weights(path: Path, modules: dict[str, nn.Module]) -> None:
    """Write the weights of several modules into one float16 safetensors file, names prefixed by the module's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{key}": value.half().contiguous()
        for name, m in modules.items()
        for key, value in m.state_dict().items()
    }
    save_file(tensors, path)


def load_weights(path: Path, modules: dict[str, nn.Module]) -> None:
    """Read what :func:`save_weights` wrote back into the same modules."""
    tensors = load_file(path)
    for name, module in modules.items():
        module.load_state_dict(
            {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        )


def write_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Replace the checkpoint in one move, so that an interruption never leaves half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def append_log(path: Path, entry: Mapping[str, int | float]) -> None:
    """Add one line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")
