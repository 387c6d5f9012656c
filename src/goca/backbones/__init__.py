"""One file per family of models; every backbone hands out the same records.

Families are imported when a pipeline of theirs is looked up, so this package itself does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from goca.backbones.base import Backbone, Conditioning
    from goca.backbones.hooks import AttentionCall, Recorder

Family = TypeVar("Family", bound="type[Backbone]")


class Families(Mapping[str, "type[Backbone]"]):
    """Families by the name of the diffusers pipeline class that they record; imported on access.

    Args:
        homes: module of this package and class of each family.
    """

    def __init__(self, homes: Mapping[str, tuple[str, str]]) -> None:
        self._homes = dict(homes)
        self._registered: dict[str, type[Backbone]] = {}

    def __getitem__(self, pipeline: str) -> type[Backbone]:
        if pipeline in self._registered:
            return self._registered[pipeline]
        module, name = self._homes[pipeline]
        return getattr(import_module(f"{__name__}.{module}"), name)

    def __iter__(self) -> Iterator[str]:
        yield from (*self._homes, *self._registered)

    def __len__(self) -> int:
        return len(self._homes) + len(self._registered)

    def add(self, family: type[Backbone]) -> None:
        """See :func:`register`."""
        for pipeline in family.pipelines:
            if pipeline in self and self[pipeline] is not family:
                raise ValueError(
                    f"{pipeline} already belongs to the family {self[pipeline].__name__}; "
                    f"take it out of {family.__name__}.pipelines"
                )
        self._registered |= {pipeline: family for pipeline in family.pipelines if pipeline not in self._homes}


BACKBONES = Families(
    {
        "StableDiffusionPipeline": ("unet", "UNetBackbone"),
        "StableDiffusionXLPipeline": ("sdxl", "SDXLBackbone"),
        "PixArtAlphaPipeline": ("dit", "DiTBackbone"),
        "PixArtSigmaPipeline": ("dit", "DiTBackbone"),
        "HunyuanDiTPipeline": ("hunyuandit", "HunyuanDiTBackbone"),
        "FluxPipeline": ("flux", "FluxBackbone"),
        "Flux2Pipeline": ("flux2", "Flux2Backbone"),
        "Flux2KleinPipeline": ("flux2", "Flux2Backbone"),
        "Flux2KleinKVPipeline": ("flux2", "Flux2Backbone"),
        "StableDiffusion3Pipeline": ("sd3", "SD3Backbone"),
        "QwenImagePipeline": ("qwenimage", "QwenImageBackbone"),
        "ZImagePipeline": ("zimage", "ZImageBackbone"),
        "Lumina2Pipeline": ("lumina2", "Lumina2Backbone"),
        "AuraFlowPipeline": ("auraflow", "AuraFlowBackbone"),
        "ChromaPipeline": ("chroma", "ChromaBackbone"),
        "CogView4Pipeline": ("cogview4", "CogView4Backbone"),
        "SanaPipeline": ("sana", "SanaBackbone"),
        "KolorsPipeline": ("kolors", "KolorsBackbone"),
    }
)


def register(family: Family) -> Family:
    """Make a family of your own known, by each of its ``pipelines``; may stand as a decorator above the class.

    Raises:
        ValueError: a pipeline class that another family records.
    """
    BACKBONES.add(family)
    return family


__all__ = ["BACKBONES", "AttentionCall", "Backbone", "Conditioning", "Recorder", "register"]

_HOMES = {"AttentionCall": "hooks", "Backbone": "base", "Conditioning": "base", "Recorder": "hooks"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
