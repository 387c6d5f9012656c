"""What an installation has, and what it lacks: versions, device, memory, caches, weights, optional packages."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from goca.models.fit import Memory, find_memory, options_that_fit
from goca.models.specs import MODELS, WEIGHTS

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")
GIB = 2**30
MUCH = 10 * GIB  # of free disk: most models take less


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        name: of what was looked at.
        value: what was found.
        advice: what to do, where something is missing or short.
    """

    name: str
    value: str
    advice: str = ""


def examine() -> list[Finding]:
    """All findings, in the order in which people look for them; nothing is downloaded or changed."""
    memory = find_memory()
    return [*_versions(), *_device(memory), *_models(memory), _weights(), _cache(), *_extras()]


def _versions() -> Iterator[Finding]:
    from goca import __version__

    yield Finding("goca", f"{__version__} in {Path(__file__).parent}")
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("libraries", ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES))


def _device(memory: Memory) -> Iterator[Finding]:
    import psutil
    import torch

    cores = f"{psutil.cpu_count(logical=False) or os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    yield Finding("cpu", cores)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        yield Finding("accelerator", "none", "big models compute on the CPU, which takes many times as long")
    else:
        name = torch.cuda.get_device_name() if accelerator.type == "cuda" else accelerator.type
        yield Finding("accelerator", name if memory.device is None else f"{name}, {_gib(memory.device)} free")
    total = int(psutil.virtual_memory().total)
    yield Finding("memory", f"{_gib(memory.main)} free of {_gib(total)}")


def _models(memory: Memory) -> Iterator[Finding]:
    ways = {name: options_that_fit(spec, memory) for name, spec in MODELS.items()}
    fitting = [f"{name} ({way})" if way else name for name, way in ways.items() if way is not None]
    too_large = [name for name, way in ways.items() if way is None]
    yield Finding("models that fit", ", ".join(fitting))
    if too_large:
        yield Finding("too large", ", ".join(too_large))


def _weights() -> Finding:
    missing = [name for name, spec in MODELS.items() if spec.vocabulary is not None and not Path(spec.source).is_dir()]
    if missing:
        return Finding("embedded models", f"{', '.join(missing)} missing", "install goca again")
    judge = "there" if (WEIGHTS / "judge").is_dir() else "not there (goca guidance-table needs it for drawn scenes)"
    return Finding("embedded models", f"there; the judge of drawn scenes is {judge}")


def _cache() -> Finding:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
    from huggingface_hub.errors import CacheNotFound

    folder = Path(HF_HUB_CACHE)
    try:
        repositories = [each for each in scan_cache_dir(folder).repos if each.repo_type == "model"]
    except CacheNotFound:
        repositories = []
    known = {spec.source: name for name, spec in MODELS.items()}
    names = sorted(known.get(each.repo_id, each.repo_id) for each in repositories)
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    value = f"{', '.join(names) or 'no model downloaded'}; {_gib(free)} of disk free in {folder}"
    advice = "make room, or name another folder in HF_HOME" if free < MUCH else ""
    return Finding("downloads", value + ("; offline (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else ""), advice)


def _extras() -> Iterator[Finding]:
    for name, packages in sorted(optional_packages().items()):
        missing = [package for package in packages if not _is_installed(package)]
        advice = f"pip install 'goca[{name}]'" if missing else ""
        yield Finding(f"extra {name}", f"lacks {', '.join(missing)}" if missing else "there", advice)


def optional_packages() -> dict[str, list[str]]:
    """The packages of each extra that ``all`` has, by the installed metadata, in which extras name no extras."""
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("goca") or ():
        match = re.match(r"([\w.-]+)[^;]*;.*\bextra == ['\"]([\w-]+)['\"]", line)
        if match is not None:
            extras.setdefault(match[2], []).append(match[1])
    everything = set(extras.pop("all", ()))
    return {name: packages for name, packages in extras.items() if everything.issuperset(packages)}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
