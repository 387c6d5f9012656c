"""The stages of an explanation as packed maps, within a bounded number of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from goca.classes import BACKGROUND
from goca.explorer.packing import fitting_side, pack_maps, reduce_maps

if TYPE_CHECKING:
    from goca.observation.explanation import Explanation
    from goca.observation.layers import LayerMaps

MOST_WORDS = 24
LAYER_SIDES, HEAD_SIDES = (128, 64, 32, 16), (16, 8)
WORD_COLOUR, SPECIAL_COLOUR, STUFF_COLOUR = [120, 120, 120], [150, 150, 150], [175, 175, 175]


def explain_stages(
    explanation: Explanation, most_bytes: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Layers (together of about ``most_bytes``), aggregated, rescaled and refined.

    The maps of layers and of the aggregated attention are those of the classes, then of further words of the text, then
    the sums over special and over other tokens, where there are such; later stages have the classes alone.

    Returns:
        the channels after the classes, the stages, and sentences about what is left out.
    """
    words = _other_words(explanation)
    shown, roles = words[:MOST_WORDS], _roles(explanation)
    channels = [{"name": word, "kind": "word", "colour": WORD_COLOUR} for word in shown]
    channels += [{"name": name, "kind": kind, "colour": colour} for kind, name, colour in roles]
    kinds = [kind for kind, _, _ in roles]
    count = len(explanation.layers) * (len(explanation.classes) + len(channels))
    side = fitting_side(count, LAYER_SIDES, most_bytes) or LAYER_SIDES[-1]
    stages: list[dict[str, Any]] = []
    for layer in explanation.layers:
        maps = reduce_maps(_attention(explanation, layer, shown, kinds), side)
        stages.append(
            {"kind": "layer", "name": layer.name, "weight": layer.weight, "unit": False, "maps": pack_maps(maps)}
        )
    aggregated = _attention(explanation, None, shown, kinds)
    stages.append({"kind": "aggregated", "name": "aggregated", "unit": False, "maps": pack_maps(aggregated)})
    for kind, later in (("rescaled", explanation.rescaled), ("refined", explanation.refined)):
        stages.append({"kind": kind, "name": kind, "unit": True, "maps": pack_maps(later)})
    notes = []
    if len(words) > len(shown):
        notes.append(
            f"Of the text's further words the first {MOST_WORDS} are shown, {len(words) - MOST_WORDS} are not."
        )
    return channels, stages, notes


def explain_layers(explanation: Explanation, most_bytes: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Weight and heads of every layer: each head's mean weight, its weights per pixel, and its maps of the classes
    where they were kept; the pictures together of at most ``most_bytes``.

    Returns:
        the layers, and sentences about what is left out.
    """
    kept = [layer for layer in explanation.layers if layer.head_maps is not None]
    heads = sum(layer.heads for layer in explanation.layers)
    count = heads + sum(layer.heads for layer in kept) * len(explanation.classes)
    side = fitting_side(count, HEAD_SIDES, most_bytes)
    notes = [] if side else ["The pictures of the heads are left out, because there are too many."]
    layers = []
    for layer in explanation.layers:
        entry: dict[str, Any] = {
            "name": layer.name,
            "weight": layer.weight,
            "grid": list(layer.grid),
            "heads": [round(float(weights.mean()), 6) for weights in layer.head_weights],
            "weights": None,
            "maps": None,
        }
        if side is not None:
            entry["weights"] = pack_maps(reduce_maps(layer.head_weights, side))
            if layer.head_maps is not None:
                entry["maps"] = pack_maps(reduce_maps(_head_maps(explanation, layer), side))
        layers.append(entry)
    return layers, notes


def _attention(
    explanation: Explanation, layer: LayerMaps | None, words: list[str], roles: list[str]
) -> Float[np.ndarray, "channels rows columns"]:
    """Attention to each channel, in one layer or aggregated."""
    if layer is None:
        text = explanation.token_maps[list(explanation.text_tokens)]
        special = [token.position for token in explanation.tokens if token.role == "special"]
        seen = np.concatenate([text, explanation.token_maps[special].sum(axis=0, keepdims=True)])
    else:
        seen = layer.maps
    sums = {"special": seen[-1:], "stuff": seen[:-1][_stuff(explanation)].sum(axis=0, keepdims=True)}
    maps = [_class_maps(explanation, seen), _word_maps(explanation, words, seen), *(sums[role] for role in roles)]
    return np.concatenate(maps)


def _class_maps(
    explanation: Explanation, seen: Float[np.ndarray, "seen rows columns"]
) -> Float[np.ndarray, "classes rows columns"]:
    """The mean over each class's tokens; of the background the highest of its phrases, 0 where there are none."""
    names = [name for name in explanation.classes if name != BACKGROUND or BACKGROUND in explanation.words]
    maps = _word_maps(explanation, names, seen)
    if len(names) == len(explanation.classes):
        return maps
    phrases = _word_maps(explanation, _phrases(explanation), seen)
    highest = phrases.max(axis=0, initial=0, keepdims=True)
    return np.concatenate([maps, highest])


def _word_maps(
    explanation: Explanation, words: list[str], seen: Float[np.ndarray, "seen rows columns"]
) -> Float[np.ndarray, "words rows columns"]:
    places = {token: place for place, token in enumerate(explanation.text_tokens)}
    means = [seen[[places[token] for token in explanation.words[word]]].mean(axis=0) for word in words]
    return np.stack(means) if means else np.zeros((0, *seen.shape[1:]), dtype=np.float32)


def _head_maps(explanation: Explanation, layer: LayerMaps) -> Float[np.ndarray, "heads classes rows columns"]:
    assert layer.head_maps is not None
    return np.stack([_class_maps(explanation, head) for head in layer.head_maps])


def _phrases(explanation: Explanation) -> list[str]:
    """What stands for the background."""
    concepts = {token.concept for token in explanation.tokens}
    return [word for word in explanation.words if word in concepts and word not in explanation.classes]


def _other_words(explanation: Explanation) -> list[str]:
    return [word for word in explanation.words if word not in explanation.classes]


def _stuff(explanation: Explanation) -> list[bool]:
    return [explanation.tokens[position].role == "stuff" for position in explanation.text_tokens]


def _roles(explanation: Explanation) -> list[tuple[str, str, list[int]]]:
    """Kind, name and colour of the sums over special and over other tokens, where there are such."""
    there = {token.role for token in explanation.tokens}
    every = [
        ("special", "start, end, padding", SPECIAL_COLOUR),
        ("stuff", "commas, articles", STUFF_COLOUR),
    ]
    return [entry for entry in every if entry[0] in there]
