"""What passes between the stages of the pipeline: frozen dataclasses, no behaviour beyond derived sizes.

Axes, everywhere in the package: ``heads`` H, ``pixels`` P = h * w of one attention grid in row-major order, ``tokens``
n of the text, ``dim`` d of one head, ``channels`` D = H * d, ``classes`` K, ``height`` and ``width`` of maps or images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from goca._moved import renamed

Grid = tuple[int, int]


@dataclass(frozen=True)
class Concept:
    """One thing to look for: its display name, the words that stand for it and the token positions of those words."""

    name: str
    words: tuple[str, ...]
    tokens: tuple[int, ...]


@renamed(content="content_tokens")
@dataclass(frozen=True)
class Prompt:
    """A text together with what its tokens mean.

    ``content_tokens`` holds the positions of all tokens that carry meaning (no special tokens, articles or
    punctuation), whether or not a class claims them; ``background`` lists the phrases that stand for "nothing
    of the above".
    """

    text: str
    classes: tuple[Concept, ...]
    background: tuple[Concept, ...]
    content_tokens: tuple[int, ...]


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
    """What the records of one transformer block for one image share; see :class:`CrossRecord` and :class:`JointRecord`.

    Queries and keys are those that the attention kernel got, after normalisation and rotary embedding.

    Attributes:
        name: of the block.
        grid: rows and columns of its pixels.
        cross_query: queries of the pixels.
        cross_key: keys of the text tokens.
        cross_value: values of the text tokens; without them the heads are averaged.
        projection: mixes the heads; without it they are averaged.
        cross_mask: number that is added to the scores of each text token (0, or a large negative one to hide it).
        cross_scale: the factor in softmax(scale * q k^T); ``None`` for 1 / sqrt(dim).
        reference: the features F, in the record of the reference layer alone.
    """

    name: str
    grid: Grid
    cross_query: Float[Tensor, "heads pixels dim"]
    cross_key: Float[Tensor, "heads tokens dim"]
    cross_value: Float[Tensor, "heads tokens dim"] | None = None
    projection: OutputProjection | None = None
    cross_mask: Float[Tensor, " tokens"] | None = None
    cross_scale: float | None = None
    reference: Float[Tensor, "pixels channels"] | None = None


@dataclass(frozen=True)
class CrossRecord(LayerRecord):
    """A block with self-attention among the pixels and cross-attention from the pixels to the text.

    Attributes:
        self_query: queries of the self-attention; without them and ``self_key`` the block has no self-attention map.
        self_key: its keys.
        self_scale: its factor, as ``cross_scale``.
        output: y, the bias-free output of the cross-attention, where the model itself computed it in float32; it is
            computed anew elsewhere.
    """

    self_query: Float[Tensor, "heads pixels dim"] | None = None
    self_key: Float[Tensor, "heads pixels dim"] | None = None
    self_scale: float | None = None
    output: Float[Tensor, "pixels out_channels"] | None = None


@dataclass(frozen=True, kw_only=True)
class JointRecord(LayerRecord):
    """A block in which one softmax runs over text *and* image keys (MMDiT): its cross- and self-attention are slices of
    the same rows.

    Attributes:
        image_key: keys of the pixels.
    """

    image_key: Float[Tensor, "heads pixels dim"]


@dataclass(frozen=True)
class ScoreMaps:
    """Maps of one image in [0, 1]: one per class, then the background, on the output grid."""

    classes: tuple[str, ...]
    maps: Float[Tensor, "classes height width"]
    background: Float[Tensor, "height width"]
