"""An explanation from what a segmenter computed."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from goca.maps.aggregate import Aggregation
from goca.maps.refine import refine
from goca.maps.rescale import rescale
from goca.method import ResolvedMethod
from goca.models import LoadedModel
from goca.observation.explanation import Explanation
from goca.observation.layers import LayerObserver
from goca.observation.tokens import describe_tokens, name_special_tokens
from goca.result import Segmentation
from goca.types import Prompt, ScoreMaps


def build_explanation(
    result: Segmentation,
    model: LoadedModel,
    method: ResolvedMethod,
    prompt: Prompt,
    aggregation: Aggregation,
    observer: LayerObserver,
) -> Explanation:
    """The explanation of one forward and of the segmentation that it led to.

    Args:
        aggregation: of the forward that the observer has seen.
    """
    attention = rescale(aggregation.token_maps, prompt, "raw")
    rescaled = rescale(aggregation.token_maps, prompt, method.method.rescale)
    refined = refine(rescaled, aggregation.refiner, method.refine_order)
    ranges, count = model.backbone.token_spans(prompt.text), len(aggregation.token_maps)
    names = name_special_tokens(model.backbone.tokenizer, prompt.text, ranges, count)
    return Explanation(
        result=result,
        model=model.spec.name,
        text=prompt.text,
        tokens=describe_tokens(prompt, ranges, count, names),
        layers=observer.finish(aggregation.weights),
        token_maps=aggregation.token_maps.float().cpu().numpy(),
        class_attention=_stack(attention, len(result.classes)),
        rescaled=_stack(rescaled, len(result.classes)),
        refined=_stack(refined, len(result.classes)),
        settings={
            **method.settings,
            "reference_layer": method.reference_layer,
            "refine_layers": list(method.refine_layers),
            "views": len(method.views),
        },
    )


def _stack(scores: ScoreMaps, count: int) -> Float[np.ndarray, "classes rows columns"]:
    """The maps of the first ``count`` of all classes and the background."""
    return torch.cat([scores.maps, scores.background[None]])[:count].float().cpu().numpy()
