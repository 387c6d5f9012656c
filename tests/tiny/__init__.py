"""Tiny pipelines of the true classes with random weights, one module per family.

Each has ``build(seed)`` and says how many image pixels one attention token covers; add a family here and every test of
``tests/backbones/test_families.py`` runs on it.
"""

from types import ModuleType

from tiny import dit, flux, unet

FAMILIES: dict[str, ModuleType] = {"unet": unet, "dit": dit, "flux": flux}
