"""What encoded texts depend on beside the texts, so that they are encoded again when it has changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from goca.backbones.turns import walk


def text_fingerprint(pipeline: Any) -> Hashable | None:
    """Of a pipeline's tokenizers and text encoders: words added to them, weights, number types, devices, adapters.

    Weights are compared by a sum over their bytes, which takes a fraction of the time of encoding a text. ``None``
    where they cannot be read, because they are offloaded layer by layer or packed in a kind of tensor of their own.
    """
    parts = [part for name, part in pipeline.components.items() if name.startswith(("tokenizer", "text_encoder"))]
    encoders = [part for part in parts if isinstance(part, nn.Module)]
    others = [part for part in parts if part is not None and not isinstance(part, nn.Module)]
    tensors = [tensor for encoder in encoders for tensor in chain(encoder.parameters(), encoder.buffers())]
    if not all(map(_is_readable, tensors)) or any(
        "_diffusers_hook" in vars(module) for encoder in encoders for module in walk(encoder)
    ):
        return None
    words = tuple((part, tuple(sorted(_added_words(part).items()))) for part in others)
    kinds = tuple((tensor.shape, tensor.dtype, str(tensor.device)) for tensor in tensors)
    return words, tuple(map(type, encoders)), kinds, _sums(tensors), tuple(_adapters(encoders))


def _added_words(tokenizer: Any) -> dict[str, int]:
    """Words of a tokenizer, or of the one in a processor, that it did not come with."""
    return (tokenizer if hasattr(tokenizer, "get_added_vocab") else tokenizer.tokenizer).get_added_vocab()


def _is_readable(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta and not tensor.is_quantized


def _sums(tensors: list[Tensor]) -> tuple[int, ...]:
    """The sum of each tensor's bytes, eight at a time, modulo 2^64."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        data = tensor.detach().contiguous().flatten().view(torch.uint8)
        words = len(data) // 8 * 8
        whole = data[:words] if data.storage_offset() % 8 == 0 else data[:words].clone()
        total = whole.view(torch.int64).sum()
        by_device.setdefault(tensor.device, []).append(total + data[words:].sum() if words < len(data) else total)
    return tuple(value for sums in by_device.values() for value in torch.stack(sums).tolist())


def _adapters(encoders: list[Any]) -> Iterator[str]:
    """Which adapters (LoRA) are on and how strong they are, of every layer that has some."""
    for encoder in encoders:
        for module in walk(encoder):
            if hasattr(module, "active_adapters") and hasattr(module, "scaling"):
                yield repr((module.active_adapters, module.scaling, module.disable_adapters, module.merged_adapters))
