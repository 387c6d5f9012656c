"""Which models a machine's memory holds, and with which options."""

from __future__ import annotations

from dataclasses import dataclass

from goca.models.model_spec import ModelSpec

OVERHEAD = 1.3
"""Memory over the weights alone: activations and the process. Measured with ``goca bench MODEL --random-weights``: 1.27
on Stable Diffusion 1.5 (512 px) and 1.23 on Stable Diffusion XL (1024 px), in float32 on a CPU."""
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Memory:
    """Free memory in bytes.

    Attributes:
        main: that programs can have without swapping.
        device: of the accelerator; ``None`` where there is none, or it shares the main memory.
    """

    main: int
    device: int | None = None


def find_memory() -> Memory:
    """The free memory of this machine and of its first accelerator."""
    import psutil
    import torch

    device = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    return Memory(int(psutil.virtual_memory().available), device)


def options_that_fit(spec: ModelSpec, memory: Memory) -> str | None:
    """The options with which a model fits, of which the first that do are taken: none (an empty text), ``--dtype
    bfloat16`` on a CPU, ``--offload model`` or ``--offload sequential`` on an accelerator; ``None`` where it does not
    fit. An estimate, see :data:`OVERHEAD`.

    Raises:
        ValueError: nobody has counted the model's parameters.
    """
    every, denoiser = spec.total_parameters or spec.parameters, spec.parameters
    if every is None or denoiser is None:
        raise ValueError(f"the size of {spec.name} is not known")

    def needs(parameters: int, dtype: str) -> float:
        return OVERHEAD * BYTES[dtype] * parameters

    if memory.device is None:
        ways = {"": needs(every, "float32"), "--dtype bfloat16": needs(every, "bfloat16")}
        return next((way for way, needed in ways.items() if needed <= memory.main), None)
    if needs(every, "bfloat16") <= memory.device:
        return ""
    if needs(every, "bfloat16") > memory.main:
        return None
    largest = max(denoiser, every - denoiser)  # all text encoders together, so that too much is asked for at most
    return "--offload model" if needs(largest, "bfloat16") <= memory.device else "--offload sequential"
