"""What passes between the stages of the pipeline: frozen dataclasses, no behaviour beyond derived sizes.

Axes, everywhere in the package: ``heads`` H, ``pixels`` P = h * w of one attention grid in row-major order, ``tokens``
n of the text, ``dim`` d of one head, ``channels`` D = H * d, ``classes`` K, ``height`` and ``width`` of maps or images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, int]


@dataclass(frozen=True)
class Concept:
    """One thing to look for: its display name, the words that stand for it and the token positions of those words."""

    name: str
    words: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A text together with what its tokens mean.

    ``content`` holds the positions of all tokens that carry meaning (no special tokens, articles or punctuation),
    whether or not a class claims them; ``background`` lists the phrases that stand for "nothing of the above".
    """

    text: str
    classes: tuple[Concept, ...]
    background: tuple[Concept, ...]
    content: tuple[int, ...]


@dataclass(frozen=True)
class OutputProjection:
    """The linear map that mixes the heads of one attention layer, bias-free.

    ``weight`` is the plain matrix (out_channels x channels, the layout of ``torch.nn.Linear``) or ``None`` when the
    module is something else (LoRA on top, quantised); then ``forward`` is the module itself, and the matrix is read
    off its outputs.
    """

    weight: Float[Tensor, "out_channels channels"] | None
    forward: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class LayerRecord:
    """The attention of one transformer block for one image, exactly as its fused kernel saw it.

    Queries and keys are after normalisation and rotary embedding. ``cross_scale`` and ``self_scale`` are the factors in
    softmax(scale * q k^T). ``cross_mask`` is the additive mask over tokens (0 or a large negative number), if any.
    ``reference`` holds the features F of the reference layer, only there. ``output`` is y, what all heads of the
    cross-attention give together, where the model itself computed it in float32; else it is computed anew. A layer
    without values averages its heads.
    ``joint`` says that one softmax runs over text *and* image keys (MMDiT): then ``cross_query`` are the image queries,
    ``self_key`` the image keys, ``self_query`` is not needed, and the cross- and self-attention are slices of the same
    rows.
    """

    name: str
    grid: Grid
    cross_query: Float[Tensor, "heads pixels dim"]
    cross_key: Float[Tensor, "heads tokens dim"]
    cross_value: Float[Tensor, "heads tokens dim"] | None = None
    projection: OutputProjection | None = None
    self_query: Float[Tensor, "heads pixels dim"] | None = None
    self_key: Float[Tensor, "heads pixels dim"] | None = None
    cross_mask: Float[Tensor, " tokens"] | None = None
    reference: Float[Tensor, "pixels channels"] | None = None
    cross_scale: float | None = None
    self_scale: float | None = None
    joint: bool = False
    output: Float[Tensor, "pixels out_channels"] | None = None


@dataclass(frozen=True)
class ScoreMaps:
    """Maps of one image in [0, 1]: one per class, then the background, on the output grid."""

    classes: tuple[str, ...]
    maps: Float[Tensor, "classes height width"]
    background: Float[Tensor, "height width"]
