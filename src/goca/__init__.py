"""Training-free semantic segmentation with pre-trained text-to-image diffusion models.

The names below are imported when they are first used, so that ``goca --help`` does not wait for torch.
"""

from goca._safe_path import guard

guard()  # before anything else is imported

from importlib import import_module
from typing import TYPE_CHECKING, Any

from goca._moved import install as install_old_paths

if TYPE_CHECKING:
    from goca.guidance.semantic import SemanticGuidance
    from goca.images import ImageError
    from goca.method import PRESETS, Method
    from goca.models import list_models
    from goca.notes import GocaWarning
    from goca.observation import Explanation
    from goca.plugins import register_baseline, register_preset
    from goca.result import Segmentation
    from goca.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "Explanation",
    "GocaWarning",
    "ImageError",
    "Method",
    "Segmentation",
    "Segmenter",
    "SemanticGuidance",
    "list_models",
    "register_baseline",
    "register_preset",
]

_HOMES = {
    "PRESETS": "goca.method",
    "Explanation": "goca.observation",
    "GocaWarning": "goca.notes",
    "ImageError": "goca.images",
    "Method": "goca.method",
    "Segmentation": "goca.result",
    "Segmenter": "goca.segmenter",
    "SemanticGuidance": "goca.guidance.semantic",
    "list_models": "goca.models",
    "register_baseline": "goca.plugins",
    "register_preset": "goca.plugins",
}
install_old_paths()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'goca' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
