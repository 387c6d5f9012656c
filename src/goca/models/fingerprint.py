"""What a loaded pipeline is made of, so that a run that is continued notices other weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from goca.storage.digest import digest, json_digest

WHOLE = 2**28  # bytes of a component up to which every weight is read
SAMPLES = 2**12  # of each tensor of a larger one


def fingerprint(pipeline: Any) -> dict[str, str]:
    """A digest of each component of a diffusers pipeline: of its weights, configuration or vocabulary.

    It depends neither on the device nor on where the files lie. Of components above :data:`WHOLE` bytes a sample of
    each tensor is read, which tells apart other trainings, but not a change of single weights; weights that offloading
    keeps elsewhere count by their shape alone.
    """
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    return {name: found for name, part in sorted(parts.items()) if (found := _component_digest(part)) is not None}


def module_digest(module: nn.Module) -> str:
    """Of the names, shapes and values of a module's weights."""
    tensors = {name.replace("_orig_mod.", ""): value for name, value in module.state_dict().items()}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    whole = sum(value.nbytes for value in tensors.values()) <= WHOLE
    parts = []
    for name, value in sorted(tensors.items()):
        parts += [f"{name} {value.dtype} {tuple(value.shape)}".encode(), _tensor_bytes(value, whole)]
    return digest(*parts)


def _tensor_bytes(value: Tensor, whole: bool) -> bytes:
    if value.is_meta or value.numel() == 0:
        return b""
    try:
        flat = value.detach().reshape(-1)
        if not whole and len(flat) > SAMPLES:
            flat = flat[torch.linspace(0, len(flat) - 1, SAMPLES, dtype=torch.float64, device=flat.device).long()]
        return flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):  # a tensor of a quantisation library that cannot be viewed
        return type(value).__name__.encode()


def _component_digest(part: Any) -> str | None:
    if isinstance(part, nn.Module):
        return module_digest(part)
    if hasattr(part, "get_vocab"):
        return json_digest([part.get_vocab(), part.all_special_tokens])
    config = getattr(part, "config", None)
    if config is None:
        return None
    plain = {key: value for key, value in dict(config).items() if not key.startswith("_")}
    return digest(json.dumps(plain, sort_keys=True, default=str).encode())
