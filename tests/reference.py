"""The method written out literally: every map, every head and every resized matrix is formed.

Slow and hungry on purpose. It is what the streaming engine has to be equal to, and what the benchmarks compare it
with; it shares no code with :mod:`goca`. Inputs are the same records; everything is computed in the dtype asked for
(float64 by default).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RESCALE_RULES = (
    "raw",
    "per-token renorm",
    "per-token renorm+",
    "sum-1 rescaling",
    "sum-1 rescaling + per-token renorm",
    "sum-1 rescaling + per-token renorm+",
    "sum-1 rescaling + per-token renorm x raw",
    "sum-1 rescaling + per-token renorm+ x raw",
    "sum-1 rescaling + per-token renorm+ x raw + renorm",
)


@dataclass(frozen=True)
class ReferenceResult:
    """Token maps ``[tokens, h, w]``, layer weights by name, and S on the output grid (or ``None``)."""

    token_maps: Tensor
    weights: dict[str, float]
    refiner: Tensor | None


def probabilities(query: Tensor, key: Tensor, scale: float | None, mask: Tensor | None = None) -> Tensor:
    """softmax(scale * q k^T + mask), ``[heads, queries, keys]``."""
    scores = query @ key.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return torch.softmax(scores if mask is None else scores + mask, dim=-1)


def attention(record, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Cross- and self-attention probabilities of all heads."""
    mask = None if record.cross_mask is None else record.cross_mask.to(dtype)
    query, key = record.cross_query.to(dtype), record.cross_key.to(dtype)
    if not hasattr(record, "image_key"):
        cross = probabilities(query, key, record.cross_scale, mask)
        if record.self_query is None:
            return cross, None
        return cross, probabilities(record.self_query.to(dtype), record.self_key.to(dtype), record.self_scale)
    tokens, pixels = key.shape[1], record.image_key.shape[1]
    if mask is not None:
        mask = torch.cat([mask, mask.new_zeros(pixels)])
    both = probabilities(query, torch.cat([key, record.image_key.to(dtype)], dim=1), record.cross_scale, mask)
    return both[..., :tokens], both[..., tokens:]


def head_maps(record, cross: Tensor, rule: str) -> Tensor:
    """One cross-attention map ``[pixels, tokens]`` of a layer, its heads weighed by ``rule``."""
    if rule == "average" or record.cross_value is None or record.projection is None:
        return cross.mean(dim=0)
    value = record.cross_value.to(cross.dtype)
    heads, _, dim = value.shape
    if record.projection.weight is not None:
        weight = record.projection.weight.to(cross.dtype)
    else:
        eye = torch.eye(heads * dim, dtype=record.cross_value.dtype)
        weight = (record.projection.forward(eye) - record.projection.forward(torch.zeros_like(eye))).T.to(cross.dtype)
    blocks = weight.T.reshape(heads, dim, -1)
    parts = cross @ value @ blocks  # [heads, pixels, out]: o_h W_h
    total = parts.sum(dim=0)
    if rule == "l2-norm":
        weights = parts.norm(dim=-1)
    elif rule in ("cosine", "cosine + VW"):
        weights = F.cosine_similarity(parts, total[None], dim=-1)
    elif rule in ("dot-product", "dot-product w/o clamp", "dot-product + VW"):
        weights = (parts * total).sum(dim=-1)
    else:
        raise ValueError(f"unknown head rule {rule!r}")
    if rule.endswith("VW"):
        weights = weights * torch.linalg.matrix_norm(value @ blocks, ord=2)[:, None]
    if rule in ("dot-product", "dot-product + VW"):
        weights = weights.clamp(min=0)
    weights = weights / weights.sum(dim=0)
    return (weights[..., None] * cross).sum(dim=0)


def resized_square(matrix: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """``[P, P]`` on ``grid`` to ``target``: keys bilinear, then queries nearest."""
    keys = F.interpolate(matrix.reshape(-1, 1, *grid), size=target, mode="bilinear").reshape(matrix.shape[0], -1)
    return F.interpolate(keys.T.reshape(-1, 1, *grid), size=target, mode="nearest").reshape(keys.shape[1], -1).T


def layer_weight(affinity: Tensor, own: Tensor, rule: str) -> Tensor:
    """How well a layer's resized self-attention agrees with the reference affinity."""
    if rule.startswith("dot-product similarity"):
        return (affinity * own).sum()
    if rule == "mse":
        return 1 / (affinity - own).norm(dim=-1).sum()
    if rule == "iou-like":
        return torch.minimum(affinity, own).sum() / (torch.maximum(affinity, own).sum() + 1e-4)
    raise ValueError(f"unknown layer rule {rule!r}")


def aggregate(
    records,
    head_rule: str,
    layer_rule: str,
    size: tuple[int, int],
    reference: str,
    refine_layers: tuple[str, ...],
    cross_layers: tuple[str, ...] | None = None,
    dtype: torch.dtype = torch.float64,
) -> ReferenceResult:
    """All layers of one image to token maps, layer weights and the refinement matrix."""
    attentions = {record.name: attention(record, dtype) for record in records}
    by_name = {record.name: record for record in records}
    used = list(by_name) if cross_layers is None else list(cross_layers)
    if layer_rule == "vanilla":
        weights = {name: torch.ones((), dtype=dtype) for name in used}
    else:
        features, grid = by_name[reference].reference.to(dtype), by_name[reference].grid
        features = features[:, :1] if layer_rule.endswith("of channel 0") else features
        affinity = torch.softmax(features @ features.T / features.shape[-1] ** 0.5, dim=-1)
        weights = {}
        for name in used:
            own = resized_square(attentions[name][1].mean(dim=0), by_name[name].grid, grid)
            weights[name] = layer_weight(affinity, own, layer_rule).clamp(min=0)
    norm = sum(weights.values())
    weights = {name: value / norm for name, value in weights.items()}
    total = 0
    for name in used:
        maps = head_maps(by_name[name], attentions[name][0], head_rule)
        maps = F.interpolate(maps.T.reshape(1, -1, *by_name[name].grid), size=size, mode="bilinear")[0]
        total = total + weights[name] * maps
    total = total.clamp(min=0)
    total = total / total.sum(dim=0, keepdim=True)
    refiner = None
    if refine_layers:
        squares = [resized_square(attentions[n][1].mean(dim=0), by_name[n].grid, size) for n in refine_layers]
        refiner = torch.stack(squares).mean(dim=0)
    return ReferenceResult(total, {name: float(value) for name, value in weights.items()}, refiner)


def blurred(maps: Tensor) -> Tensor:
    """5 x 5 Gaussian, sigma 1.1, reflect padding, as one two-dimensional convolution."""
    axis = torch.arange(-2, 3, dtype=maps.dtype)
    kernel = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.1**2))
    padded = F.pad(maps[:, None], (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def min_max(maps: Tensor) -> Tensor:
    """Each map to [0, 1]."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low)


def rescaled(token_maps: Tensor, objects, background, content, rule: str) -> Tensor:
    """Class maps and the background's, ``[classes + 1, h, w]``."""
    if rule not in RESCALE_RULES:
        raise ValueError(f"unknown rescaling rule {rule!r}")
    groups = [token_maps[list(ids)].mean(dim=0) for ids in [*objects, *background]]
    raw = torch.stack(groups)
    maps = raw
    if rule.startswith("sum-1"):
        maps = maps / token_maps[list(content)].sum(dim=0)
    if "renorm+" in rule:
        maps = min_max(blurred(maps))
    elif "renorm" in rule:
        maps = maps / maps.amax(dim=(1, 2), keepdim=True)
    if "x raw" in rule:
        maps = maps * raw
    if rule.endswith("x raw + renorm"):
        maps = min_max(blurred(maps))
    classes, rest = maps[: len(objects)], maps[len(objects) :]
    last = rest.amax(dim=0) if len(rest) else torch.zeros_like(classes[0])
    return torch.cat([classes, last[None]])


def refined(maps: Tensor, refiner: Tensor, order: int) -> Tensor:
    """C <- S C, ``order`` times, then min-max; an all-zero background stays."""
    classes, height, width = maps.shape
    count = classes if maps[-1].any() else classes - 1
    columns = maps[:count].flatten(1).T
    for _ in range(order):
        columns = refiner @ columns
    return torch.cat([min_max(columns.T.reshape(count, height, width)), maps[count:]])
