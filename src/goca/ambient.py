"""The library's own mathematics does not follow what torch is set to around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def neutral() -> Iterator[None]:
    """Compute without autocast and without gradients, give normal tensors (none of inference mode), and make tensors on
    the CPU where no device is named.

    All of this belongs to the thread. The default number type belongs to the process, where other threads would meet a
    change of it; the library names the number type of every tensor that it makes instead.
    """
    with ExitStack() as stack:
        for device in AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.no_grad())
        yield
