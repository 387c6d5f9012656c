"""One file per family of models; every backbone hands out the same records."""

from goca.backbones.auraflow import AuraFlowBackbone
from goca.backbones.base import Backbone, Conditioning
from goca.backbones.chroma import ChromaBackbone
from goca.backbones.cogview4 import CogView4Backbone
from goca.backbones.dit import DiTBackbone
from goca.backbones.flux import FluxBackbone
from goca.backbones.flux2 import Flux2Backbone
from goca.backbones.hooks import AttentionCall, Recorder
from goca.backbones.hunyuandit import HunyuanDiTBackbone
from goca.backbones.kolors import KolorsBackbone
from goca.backbones.lumina2 import Lumina2Backbone
from goca.backbones.qwenimage import QwenImageBackbone
from goca.backbones.sana import SanaBackbone
from goca.backbones.sd3 import SD3Backbone
from goca.backbones.sdxl import SDXLBackbone
from goca.backbones.unet import UNetBackbone
from goca.backbones.zimage import ZImageBackbone

BACKBONES: dict[str, type[Backbone]] = {
    "unet": UNetBackbone,
    "sdxl": SDXLBackbone,
    "dit": DiTBackbone,
    "hunyuandit": HunyuanDiTBackbone,
    "flux": FluxBackbone,
    "flux2": Flux2Backbone,
    "sd3": SD3Backbone,
    "qwenimage": QwenImageBackbone,
    "zimage": ZImageBackbone,
    "lumina2": Lumina2Backbone,
    "auraflow": AuraFlowBackbone,
    "chroma": ChromaBackbone,
    "cogview4": CogView4Backbone,
    "sana": SanaBackbone,
    "kolors": KolorsBackbone,
}

__all__ = ["BACKBONES", "AttentionCall", "Backbone", "Conditioning", "Recorder"]
