"""What differs between systems: how memory is counted, modules that Windows lacks, devices without float64."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import goca
from goca import Segmenter, SemanticGuidance
from goca.memory import peak_mib, return_free_memory
from goca.models import wrap

POSIX_ONLY = {"resource", "fcntl", "grp", "pwd", "termios", "tty", "pty", "posix", "readline", "curses", "syslog"}


@pytest.mark.parametrize(("platform", "expected"), [("linux", 300.0), ("darwin", 300.0 / 1024)])
def test_the_unit_of_the_peak_depends_on_the_system(
    platform: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=300 * 1024))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_mib() == pytest.approx(expected, rel=1e-12)


def test_windows_has_no_module_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(
        psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=5 * 2**20))
    )
    assert peak_mib() == 5


def test_the_peak_here_is_what_the_system_says() -> None:
    assert psutil.Process().memory_info().rss / 2**20 <= peak_mib() + 1


@pytest.mark.parametrize("platform", ["win32", "darwin", sys.platform])
def test_memory_is_returned_where_that_exists(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    return_free_memory()


def test_modules_that_windows_lacks_are_imported_where_needed_alone() -> None:
    for path in Path(goca.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert path.name == "memory.py" or not POSIX_ONLY & set(names), path


class Float64Seen(TorchDispatchMode):
    """Fails where a tensor of 64-bit floats is made, which Apple's GPUs do not have."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        assert all(str(getattr(leaf, "dtype", "")) != "torch.float64" for leaf in tree_leaves(result)), function
        return result


@pytest.mark.parametrize("family", ["unet", "dit"])  # diffusers gives Flux positions in float64, but not on mps
def test_segmenting_needs_no_float64(family: str) -> None:
    segmenter = Segmenter(wrap("tiny", tiny.FAMILIES[family].build()), "sharp")
    image = np.zeros((32, 32, 3), np.uint8)
    segmenter(image, ["cat", "sky"])  # indices, which are made on the CPU and kept
    with Float64Seen():
        segmenter(image, ["cat", "sky"], seed=1)


def test_guidance_needs_no_float64() -> None:
    pipeline = tiny.unet.build()
    size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    options = {"num_inference_steps": 2, "guidance_scale": 5.0, "height": size, "width": size, "output_type": "latent"}
    with SemanticGuidance(pipeline):
        pipeline("cat, sky", **options)
        with Float64Seen():
            pipeline("cat, sky", **options)
