"""Every choice of the method in one dataclass, with named presets.

The names of the rules are those of the published code (and of the golden files), so that an ablation reads like the
paper's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """How attention becomes class maps and class maps become labels.

    Args:
        heads: rule that weighs the heads of a layer, a key of :data:`goca.maps.heads.HEAD_RULES`; ``None``
            takes the model's own (the paper averages the heads of some models).
        layers: rule that weighs the layers, a key of :data:`goca.maps.layers.LAYER_RULES`; ``None`` takes the
            model's own (the paper's, unless the model has no self-attention map to weigh them by).
        rescale: rule that makes the maps of different words comparable, a key of
            :data:`goca.maps.rescale.RESCALE_RULES`.
        refine_order: how often the self-attention is applied to the maps; ``None`` takes the model's own, 0 switches
            it off.
        background: rule for the background's score, a key of :data:`goca.maps.background.BACKGROUND_RULES`. There is a
            background where the prompt names phrases for it or ``threshold`` is set.
        threshold: the parameter of that rule; ``None`` is 0 where the prompt names background phrases.
        layer_set: whose cross-attention is aggregated: the ``"selected"`` layers of the model's spec, the
            hand-picked ones of its ``"manual"`` baseline, ``"all"`` layers of the denoiser, or the ``"reference"``
            layer alone.
        timesteps: how many timesteps around the model's own are averaged (1: the model's own alone).
        flip: average with the horizontally flipped image.
        pamr: how many rounds of pixel-adaptive refinement draw the maps to the image's edges, see
            :mod:`goca.maps.pamr`; 0 leaves it out.
    """

    heads: str | None = None
    layers: str | None = None
    rescale: str = "sum-1 rescaling + per-token renorm+"
    refine_order: int | None = None
    background: str = "offset"
    threshold: float | None = None
    layer_set: str = "selected"
    timesteps: int = 1
    flip: bool = False
    pamr: int = 0


PRESETS: dict[str, Method] = {
    "paper": Method(),
    "plus": Method(
        heads="l2-norm",
        rescale="sum-1 rescaling + per-token renorm+ x raw + renorm",
        background="max",
        flip=True,
    ),
    "sharp": Method(rescale="sum-1 rescaling + per-token renorm+ x raw", flip=True, pamr=10),
    "vanilla": Method(heads="average", layers="vanilla", rescale="per-token renorm"),
    "manual": Method(heads="average", layers="vanilla", rescale="per-token renorm+", layer_set="manual"),
}
