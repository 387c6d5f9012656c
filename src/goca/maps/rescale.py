"""Per-pixel rescaling: equations 9 to 11 of docs/method.md (GoCA, arXiv 2603.06178), from maps of tokens to maps of
classes that can be compared with each other.

A class k, or a phrase for the background, claims some of the prompt's tokens; the content tokens are all that carry
meaning::

    C_k(p) = mean of A(p, t) over the tokens t of k                             (9)
    C_k(p) <- C_k(p) / factor(p),  factor(p) = sum of A(p, t) over content t    (10)
    C_k    <- min-max(blur(C_k))                                                (11)

The background's map is the pixel-wise maximum over its phrases' maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from goca.ambient import neutral
from goca.lookup import look_up
from goca.types import Concept, Prompt, ScoreMaps

TINY = 1e-12


@lru_cache(maxsize=64)
@neutral()
def _filter_matrix(size: int, variance: float, radius: int, device: torch.device) -> Float[Tensor, "size size"]:
    weights = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float32, device=device) ** 2) / (2 * variance))
    reflected = F.pad(torch.eye(size, dtype=torch.float32, device=device)[None], (radius, radius), mode="reflect")
    return F.conv1d(reflected.transpose(0, 1), (weights / weights.sum())[None, None])[:, 0].T.contiguous()


@neutral()
def gaussian(
    maps: Float[Tensor, "maps height width"], variance: float, radius: int
) -> Float[Tensor, "maps height width"]:
    """Gaussian filter of 2 ``radius`` + 1 pixels a side, normalised, with reflect padding: one small matrix per axis,
    which on maps of these sizes is faster than a convolution."""
    vertical, horizontal = (_filter_matrix(side, variance, radius, maps.device) for side in maps.shape[1:])
    return vertical @ (maps @ horizontal.T)


def blur(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """Gaussian blur, 5 x 5, sigma 1.1, reflect padding.

    Raises:
        ValueError: maps of fewer than 3 pixels a side, which cannot be reflected.
    """
    if min(maps.shape[1:]) < 3:
        raise ValueError(
            f"maps of {maps.shape[1]} x {maps.shape[2]} are too small to blur; use an output grid of 3 x 3 or more"
        )
    return gaussian(maps, variance=1.1**2, radius=2)


def min_max(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """(C - min) / (max - min) of every map: [0, 1]; a constant map becomes 0."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    return (maps - low[:, None, None]) / (high - low).clamp_min(TINY)[:, None, None]


def divide_by_max(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """C / max of every map."""
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(TINY)


def smooth_min_max(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """Equation 11: blur, then min-max; the step that the rules call ``renorm+``."""
    return min_max(blur(maps))


@dataclass(frozen=True)
class RescaleRule:
    """What is done to the class maps, in the order of the attributes.

    Attributes:
        share: divide by the sum of the content tokens, equation 10.
        normalise: function of all maps, such as equation 11.
        times_raw: multiply by the maps of equation 9.
        finish: function of all maps.
    """

    share: bool = False
    normalise: Callable[[Tensor], Tensor] | None = None
    times_raw: bool = False
    finish: Callable[[Tensor], Tensor] | None = None


RESCALE_RULES: dict[str, RescaleRule] = {
    "raw": RescaleRule(),
    "per-token renorm": RescaleRule(normalise=divide_by_max),
    "per-token renorm+": RescaleRule(normalise=smooth_min_max),
    "sum-1 rescaling": RescaleRule(True),
    "sum-1 rescaling + per-token renorm": RescaleRule(True, divide_by_max),
    "sum-1 rescaling + per-token renorm+": RescaleRule(True, smooth_min_max),
    "sum-1 rescaling + per-token renorm x raw": RescaleRule(True, divide_by_max, True),
    "sum-1 rescaling + per-token renorm+ x raw": RescaleRule(True, smooth_min_max, True),
    "sum-1 rescaling + per-token renorm+ x raw + renorm": RescaleRule(True, smooth_min_max, True, smooth_min_max),
}
"""Rules by their published names. Rules of your own may be added."""


def class_means(
    token_maps: Float[Tensor, "tokens height width"], concepts: Sequence[Concept]
) -> Float[Tensor, "concepts height width"]:
    """Equation 9: the mean over each concept's tokens. Naive: ``token_maps[list(tokens)].mean(dim=0)`` of each.

    Raises:
        ValueError: a concept without tokens, or a token beyond the text.
    """
    matrix = torch.zeros(len(concepts), len(token_maps), dtype=torch.float32)
    for row, concept in enumerate(concepts):
        tokens = list(concept.tokens)
        if not tokens or not 0 <= min(tokens) <= max(tokens) < len(token_maps):
            raise ValueError(
                f"{concept.name!r} has tokens {concept.tokens} in a text of {len(token_maps)}; shorten the prompt"
            )
        matrix[row, tokens] = 1 / len(tokens)
    return (matrix.to(token_maps.device) @ token_maps.flatten(1)).view(-1, *token_maps.shape[1:])


def content_share(
    token_maps: Float[Tensor, "tokens height width"], content: tuple[int, ...]
) -> Float[Tensor, "height width"]:
    """Equation 10: factor(p) = sum of A(p, t) over the content tokens.

    Raises:
        ValueError: no content token.
    """
    if not content:
        raise ValueError("the prompt has no content token to rescale by; name at least one thing in it")
    return token_maps[list(content)].sum(dim=0)


@neutral()
def rescale(token_maps: Float[Tensor, "tokens height width"], prompt: Prompt, rule: str) -> ScoreMaps:
    """Class maps, and the pixel-wise maximum over the background phrases' maps (zeros where there is none).

    Args:
        rule: key of :data:`RESCALE_RULES`.

    Raises:
        ValueError: unknown rule, no class, a concept without tokens, or a token beyond the text.
    """
    steps: RescaleRule = look_up(RESCALE_RULES, rule, "rescaling rule")
    if not prompt.classes:
        raise ValueError("the prompt names no class; give at least one")
    raw = class_means(token_maps, (*prompt.classes, *prompt.background))
    maps = raw / content_share(token_maps, prompt.content_tokens).clamp_min(TINY) if steps.share else raw
    if steps.normalise is not None:
        maps = steps.normalise(maps)
    if steps.times_raw:
        maps = maps * raw
    if steps.finish is not None:
        maps = steps.finish(maps)
    count = len(prompt.classes)
    background = maps[count:].amax(dim=0) if prompt.background else torch.zeros_like(maps[0])
    return ScoreMaps(tuple(concept.name for concept in prompt.classes), maps[:count], background)
