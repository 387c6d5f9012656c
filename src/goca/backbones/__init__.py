"""One file per family of models; every backbone hands out the same records."""

from goca.backbones.base import Backbone, Conditioning
from goca.backbones.dit import DiTBackbone
from goca.backbones.flux import FluxBackbone
from goca.backbones.recorder import AttentionCall, Recorder
from goca.backbones.unet import UNetBackbone

BACKBONES: dict[str, type[Backbone]] = {"unet": UNetBackbone, "dit": DiTBackbone, "flux": FluxBackbone}

__all__ = ["BACKBONES", "AttentionCall", "Backbone", "Conditioning", "Recorder"]
