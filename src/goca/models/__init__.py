"""The models known by name, and loading any pipeline of a supported family."""

from goca.models.loading import LoadedModel, backbone_class, list_models, load, memory_errors, wrap
from goca.models.specs import DEFAULT_MODEL, MODELS, ModelSpec

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "LoadedModel",
    "ModelSpec",
    "backbone_class",
    "list_models",
    "load",
    "memory_errors",
    "wrap",
]
