"""Methods that can stand side by side in one table: the presets, and baselines of the field read off the same
recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image

from goca.maps.crf import crf
from goca.maps.pamr import pamr
from goca.method import PRESETS, Method
from goca.models.specs import ModelSpec
from goca.types import ScoreMaps

POST_PROCESSING: dict[str, Callable[[ScoreMaps, Image.Image], ScoreMaps]] = {"crf": crf}
PAMR_ITERATIONS = 10


@dataclass(frozen=True)
class MethodVariant:
    """A method and what is done to its maps afterwards, a key of :data:`POST_PROCESSING`."""

    method: Method
    post: str | None = None

    def finish(self, scores: ScoreMaps, image: Image.Image) -> ScoreMaps:
        """The maps after sharpening and post-processing with the image."""
        refined = pamr(scores, image, self.method.pamr)
        return refined if self.post is None else POST_PROCESSING[self.post](refined, image)

    def describe(self) -> dict[str, Any]:
        """Every setting."""
        return {**asdict(self.method), "post": self.post}


_VANILLA = PRESETS["vanilla"]
BASELINES: dict[str, MethodVariant] = {
    # The sum over all heads and layers of what the pixels see of each word, each map by its maximum (Tang et al., "What
    # the DAAM", ACL 2023; there per word and time step, here of the one forward).
    "daam": MethodVariant(replace(_VANILLA, layer_set="all", refine_order=0)),
    # One layer's attention from image to text, no further step, as Seg4Diff and ConceptAttention read joint attention
    # (they pick the layer by hand, here it is the reference layer).
    "single-layer": MethodVariant(replace(_VANILLA, rescale="raw", layer_set="reference", refine_order=0)),
    "vanilla+pamr": MethodVariant(replace(_VANILLA, pamr=PAMR_ITERATIONS)),
    "vanilla+crf": MethodVariant(_VANILLA, "crf"),
}


def find_variants(names: Sequence[str], refine: bool = True) -> dict[str, MethodVariant]:
    """The presets and baselines of these names, in order.

    Args:
        refine: ``False`` leaves out the refinement by self-attention and the sharpening.

    Raises:
        ValueError: no name, or an unknown one.
    """
    if not names:
        raise ValueError("name at least one preset, for example --presets vanilla,paper")
    for name in names:
        if name not in BASELINES and name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; choose one of {', '.join((*PRESETS, *BASELINES))}")
    chosen = {name: BASELINES[name] if name in BASELINES else MethodVariant(PRESETS[name]) for name in names}
    if refine:
        return chosen
    return {name: replace(each, method=replace(each.method, refine_order=0, pamr=0)) for name, each in chosen.items()}


def check_layers(variants: Mapping[str, MethodVariant], spec: ModelSpec) -> None:
    """Raise ``ValueError`` where a method needs hand-picked layers and the model has none."""
    for name, each in variants.items():
        if each.method.layer_set == "manual" and not spec.manual_layers:
            raise ValueError(f"{spec.name} has no hand-picked layers for the preset {name!r}; leave it out")


def ablation(spec: ModelSpec) -> dict[str, MethodVariant]:
    """The rows of the paper's ablation: head aggregation, layer aggregation and rescaling, each alone and together,
    over plain averages; and the hand-picked layers where the model has some."""
    paper = PRESETS["paper"]
    rows = {
        "none": _VANILLA,
        "manual layers": PRESETS["manual"],
        "head": replace(_VANILLA, heads=paper.heads),
        "layer": replace(_VANILLA, layers=paper.layers),
        "rescale": replace(_VANILLA, rescale=paper.rescale),
        "all": paper,
    }
    if not spec.manual_layers:
        del rows["manual layers"]
    return {name: MethodVariant(method) for name, method in rows.items()}
