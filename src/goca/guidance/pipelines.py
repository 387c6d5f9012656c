"""How a pipeline guides, and following its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from goca.backbones.base import Backbone
from goca.backbones.settings import JOINED, GuidanceLayout, find_pipeline
from goca.types import Grid

EMBEDDED = (
    "{name} has no classifier-free guidance: it is guidance-distilled and takes the scale as an input of the denoiser, "
    "so there are no two halves to compare; use masks='cfg' (--guidance cfg) or a model that is not distilled"
)
DISTILLED = (
    "{name} has no classifier-free guidance: it is distilled to few steps and needs none; use masks='cfg' "
    "(--guidance cfg) or a model that is not distilled"
)
UNKNOWN = (
    "goca does not know how {pipeline} guides, so {name} cannot be drawn with guidance by regions; use masks='cfg' "
    "(--guidance cfg), or say how in {family}.guidance (docs/adding-a-model.md)"
)


def guidance_layout(backbone: Backbone, name: str) -> GuidanceLayout:
    """How the backbone's pipeline guides.

    Raises:
        ValueError: a model without classifier-free guidance, or whose layout the family does not give; the message
            calls it ``name`` and says what to do.
    """
    reason = refusal(backbone)
    if reason:
        pipeline, family = type(backbone.pipeline).__name__, type(backbone).__name__
        raise ValueError(reason.format(name=name, pipeline=pipeline, family=family))
    return backbone.guidance[_guided_class(backbone)]


def plain_layout(backbone: Backbone) -> GuidanceLayout:
    """How the pipeline takes a scale, be it guided or distilled, which has an argument of its own for that."""
    return JOINED if refusal(backbone) else backbone.guidance[_guided_class(backbone)]


def _guided_class(backbone: Backbone) -> str:
    """The key of ``backbone.guidance``; blank for a pipeline that starts from an image, whose steps are others."""
    return find_pipeline(backbone.guidance, type(backbone.pipeline), from_images=False) or ""


def refusal(backbone: Backbone) -> str | None:
    """Why the model cannot be guided by regions, if so, with places for its name, pipeline and family."""
    config, pipeline = backbone.denoiser.config, backbone.pipeline
    if config.get("guidance_embeds") or config.get("time_cond_proj_dim"):
        return EMBEDDED
    if pipeline.config.get("is_distilled") or "schnell" in str(pipeline.name_or_path).lower():
        return DISTILLED
    return None if _guided_class(backbone) in backbone.guidance else UNKNOWN


@contextmanager
def around_calls(pipeline: Any, around: Callable[[Mapping[str, Any]], Any]) -> Iterator[None]:
    """Run every call of this one pipeline inside the context manager that ``around(arguments)`` gives.

    Python looks ``__call__`` up on the class, so the object gets a subclass of the same name for the time being.
    """
    kind = type(pipeline)
    signature = inspect.signature(kind.__call__)

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        with around(bound.arguments):
            return kind.__call__(self, *args, **kwargs)

    members = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    pipeline.__class__ = type(kind.__name__, (kind,), members)
    try:
        yield
    finally:
        pipeline.__class__ = kind


def prompts_of(pipeline: Any, arguments: Mapping[str, Any]) -> list[str]:
    """The texts of a call, as the text encoder gets them.

    Raises:
        ValueError: embeddings instead of a text.
    """
    prompt = arguments.get("prompt")
    if prompt is None:
        raise ValueError("guidance by regions needs to know the words; pass prompt instead of prompt_embeds")
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if "clean_caption" in arguments:
        texts = pipeline._text_preprocessing(texts, clean_caption=arguments["clean_caption"])
    return texts


def latent_size(backbone: Backbone, arguments: Mapping[str, Any]) -> Grid:
    """Rows and columns of latents in a call of a pipeline that packs them, from the image's size in pixels."""
    default = getattr(backbone.pipeline, "default_sample_size", 0) * backbone.vae_factor
    sides = (arguments.get(name) or default for name in ("height", "width"))
    rows, columns = (side // backbone.size_multiple * (backbone.size_multiple // backbone.vae_factor) for side in sides)
    return rows, columns
