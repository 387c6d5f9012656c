"""The linear map that mixes the heads of an attention module, read where its matrix is at hand."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import nn

from goca.types import OutputProjection

PLAIN_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def output_projection(attention: Any) -> OutputProjection | None:
    """The projection after the heads: its matrix where it is a plain linear layer at hand, else the module itself;
    ``None`` where the attention module has none of its own, like FLUX's single blocks.

    A layer with LoRA on top is another class, a quantised one has another number type or kind of tensor, an offloaded
    one has no data, or not its own.
    """
    layers = getattr(attention, "to_out", None)
    if not isinstance(layers, nn.ModuleList):
        return None
    module = layers[0]
    return OutputProjection(module.weight.detach()) if plain_linear(module) else OutputProjection(None, module)


def plain_linear(module: Any) -> TypeGuard[nn.Linear]:
    """Whether a module's matrix is there to be read. Under diffusers' group offloading anything may be in its place."""
    plain = type(module) is nn.Linear and type(module.weight) is nn.Parameter and not hasattr(module, "_diffusers_hook")
    return plain and not module.weight.is_meta and module.weight.dtype in PLAIN_DTYPES


def exact_output(module: Any) -> TypeGuard[nn.Linear]:
    """Whether a module's output less its bias is as exact as the maths that would take its place."""
    return plain_linear(module) and module.weight.dtype == torch.float32
