"""What a family declares: its pipelines, settings derived from its architecture, and how its pipelines guide."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

CONTROLNET, FROM_IMAGES = "ControlNet(Union)?", "|Img2Img|Inpaint(ing)?"  # in the names of diffusers' classes


def find_pipeline(known: Collection[str], pipeline: type | str, *, from_images: bool = True) -> str | None:
    """Which of the ``known`` pipeline classes a class, or the class of a name, belongs to, if any.

    A subclass belongs to its base class; and so does the class that diffusers derives from one for ControlNets, or for
    an image to start from (``from_images``), which has the same components and reads texts alike.
    """
    ignored = CONTROLNET + (FROM_IMAGES if from_images else "")
    names = [pipeline] if isinstance(pipeline, str) else [each.__name__ for each in pipeline.__mro__]
    candidates = (each for name in names for each in (name, re.sub(ignored, "", name)))
    return next((name for name in candidates if name in known), None)


@dataclass(frozen=True)
class Settings:
    """Settings of a segmentation that depend on the architecture, see :class:`goca.models.ModelSpec`."""

    reference_layer: str
    refine_layers: tuple[str, ...]
    refine_order: int
    timestep: int = 100
    head_rule: str = "dot-product w/o clamp"
    layer_rule: str = "dot-product similarity"


@dataclass(frozen=True)
class GuidanceLayout:
    """How a diffusers pipeline runs classifier-free guidance.

    Attributes:
        joined: both halves are one batch of the denoiser; otherwise they are two calls, the one with the text first.
        negative_first: the half without the text comes first in a joined batch.
        argument: the pipeline's argument that is the scale.
        offset: what the pipeline's formula adds to that scale.
        padded_front: shorter texts of a batch are filled up in front.
        negative: the least ``negative_prompt`` with which the pipeline guides at all; ``None`` where it needs none.
    """

    joined: bool = True
    negative_first: bool = True
    argument: str = "guidance_scale"
    offset: float = 0.0
    padded_front: bool = False
    negative: str | None = None


JOINED, SEPARATE = GuidanceLayout(), GuidanceLayout(joined=False)
