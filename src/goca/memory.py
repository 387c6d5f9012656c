"""The memory of this process, on every system."""

from __future__ import annotations

import ctypes
import sys


def peak_mib() -> float:
    """The largest resident size of this process so far, in MiB."""
    try:
        import resource
    except ImportError:  # on Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def return_free_memory() -> None:
    """Return freed heap to the system where the C library is glibc, which otherwise keeps the holes that large tensors
    leave between small results: gigabytes after some hundred images."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
