"""Guidance whose strength differs by region: S-CFG (Shen et al., CVPR 2024, arXiv 2404.05384) with GoCA's maps.

eps = eps_uncond + scale * rate * (eps_text - eps_uncond), where rate(p) = f / region(token of p) evens out how strongly
the text pulls at the regions of the image. The regions are those of the prompt's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from goca.ambient import neutral
from goca.maps.aggregate import Aggregation
from goca.maps.refine import refine
from goca.maps.rescale import gaussian, min_max, rescale, smooth_min_max
from goca.maps.resize import resize_maps
from goca.types import Concept, Grid, Prompt, ScoreMaps

RATES = (0.8, 3.0)
STRONGEST = 15.0  # of scale * rate
SIGMA = 0.5


@neutral()
def region_masks(
    aggregation: Aggregation,
    start: Float[Tensor, "rows columns"],
    tokens: Sequence[int],
    content: Sequence[int],
    rule: str,
    order: int,
    size: Grid,
) -> tuple[Float[Tensor, "tokens height width"], Float[Tensor, "height width"]]:
    """Regions of ``tokens``, and the foreground; both 0 or 1.

    Every token is rescaled and refined as a class of its own; each pixel belongs to the token whose map is the largest
    there, where maps tie to each of them, as in the published code. The foreground is where the map of a token that
    stands for nothing, refined, brought to [0, 1], blurred and brought to [0, 1] again, is below one half.

    Args:
        aggregation: of the conditional half; its self-attention refines both.
        start: aggregated map of that token, ``<sos>`` of the unconditional half.
        content: the tokens that are not special; their sum is what rules that rescale divide by.
        rule: key of :data:`goca.maps.rescale.RESCALE_RULES`.
        order: how often the self-attention is applied.
        size: rows and columns of the masks.
    """
    words = tuple(Concept(str(token), (), (token,)) for token in tokens)
    scores = rescale(aggregation.token_maps, Prompt("", words, (), tuple(content)), rule)
    both = torch.cat([scores.maps, start[None]])
    names = (*scores.classes, "start")
    refined = refine(ScoreMaps(names, both, torch.zeros_like(start)), aggregation.refiner, order).maps
    maps = resize_maps(refined[:-1], size)
    background = resize_maps(smooth_min_max(min_max(refined[-1:])), size)[0]
    return (maps == maps.amax(dim=0)).float(), (background < 1 - background).float()


@neutral()
def guidance_rate(
    noise_uncond: Float[Tensor, "channels height width"],
    noise_text: Float[Tensor, "channels height width"],
    masks: Float[Tensor, "tokens height width"],
    foreground: Float[Tensor, "height width"],
    scale: float,
) -> Float[Tensor, "height width"]:
    """rate(p): the mean of d = |eps_text - eps_uncond| in the foreground over its mean in the pixel's own region.

    Clamped to [0.8, 3] and to at most 15 / ``scale``, then smoothed 3 x 3. Without a foreground it is 1 everywhere, and
    so it is in a region in which the halves agree.
    """
    strength = (noise_text.float() - noise_uncond.float()).square().sum(dim=0).sqrt()
    inside = mean_inside(strength, foreground[None])
    regions = mean_inside(strength, masks)
    rates = torch.where(regions > 0, inside / regions, torch.ones_like(regions))
    rate = (rates[:, None, None] * masks).sum(dim=0)
    rate = torch.where(foreground.any(), rate, torch.ones_like(rate))
    return smooth(rate.clamp(*RATES).clamp_max(STRONGEST / scale))


def mean_inside(
    values: Float[Tensor, "height width"], masks: Float[Tensor, "masks height width"]
) -> Float[Tensor, " masks"]:
    """Mean of the values under each mask; 0 under an empty one."""
    return (values * masks).sum(dim=(1, 2)) / masks.sum(dim=(1, 2)).clamp_min(1)


def smooth(rate: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """3 x 3 with kernel exp(-(x / (2 sigma))^2), sigma 0.5, normalised; reflect padding."""
    return gaussian(rate[None], variance=2 * SIGMA**2, radius=1)[0]


def guided_noise(noise_uncond: Tensor, noise_text: Tensor, rate: Tensor, scale: float) -> Tensor:
    """eps_uncond + scale * rate * (eps_text - eps_uncond); the rate is broadcast over channels."""
    return noise_uncond + scale * rate * (noise_text - noise_uncond)


def adjusted_uncond(noise_uncond: Tensor, noise_text: Tensor, rate: Tensor, scale: float) -> Tensor:
    """What a pipeline has to be given as eps_uncond so that its own eps_uncond + scale * (eps_text - eps_uncond), with
    ``scale`` above 1, becomes :func:`guided_noise`.

    Solved for it: eps_uncond - scale (rate - 1) / (scale - 1) * (eps_text - eps_uncond). Where the rate is 1 nothing
    changes, to the last bit; eps_text stays as it is for pipelines that read its norm or deviation afterwards.
    """
    share = (scale / (scale - 1)) * (rate - 1)
    return (noise_uncond - share * (noise_text.float() - noise_uncond.float())).to(noise_uncond.dtype)
