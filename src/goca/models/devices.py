"""Devices and number types, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goca.lookup import look_up

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")


def check_device(device: str | torch.device | None) -> None:
    """Raise ``ValueError`` for a device that is no device's name or not on this machine."""
    import torch

    if device is None:
        return
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"unknown device {device!r}; use cpu, cuda, cuda:1 or mps") from None
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if kind != "cpu" and (accelerator is None or accelerator.type != kind):
        raise ValueError(f"there is no {kind} device on this machine; use {accelerator.type if accelerator else 'cpu'}")


def find_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """torch's number type of a name of :data:`DTYPES`; others are given back.

    Raises:
        ValueError: unknown name.
    """
    import torch

    if not isinstance(dtype, str):
        return dtype
    look_up(DTYPES, dtype, "number type")
    return getattr(torch, dtype)
