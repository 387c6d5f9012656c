"""Tiny pipelines of the true classes with random weights, one module per family.

Each has ``build(seed)`` and says how many image pixels one attention token covers; add a family here and every test of
``tests/backbones/test_families.py`` runs on it.
"""

from types import ModuleType

from tiny import (
    auraflow,
    chroma,
    cogview4,
    dit,
    flux,
    flux2,
    flux2_klein,
    hunyuandit,
    kolors,
    lumina2,
    qwenimage,
    sana,
    sd3,
    sdxl,
    unet,
    zimage,
)

FAMILIES: dict[str, ModuleType] = {
    "unet": unet,
    "sdxl": sdxl,
    "dit": dit,
    "hunyuandit": hunyuandit,
    "flux": flux,
    "lumina2": lumina2,
    "zimage": zimage,
    "qwenimage": qwenimage,
    "flux2-klein": flux2_klein,
    "flux2": flux2,
    "sd3": sd3,
    "auraflow": auraflow,
    "chroma": chroma,
    "cogview4": cogview4,
    "sana": sana,
    "kolors": kolors,
}
