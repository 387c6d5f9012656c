"""How the stock pipelines guide: in one call of the denoiser or in two, and with which argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from goca.backbones.base import Backbone
from goca.types import Grid


@dataclass(frozen=True)
class Layout:
    """How a pipeline runs classifier-free guidance.

    Attributes:
        joined: both halves are one batch of the denoiser; otherwise the text's call comes first and the other next.
        negative_first: in a joined batch.
        argument: the pipeline's argument that is the scale.
        offset: what the pipeline's formula adds to that scale.
        padded_front: shorter texts of a batch are filled up in front.
        negative: what has to be passed as ``negative_prompt`` for the pipeline to guide at all; ``None`` for nothing.
    """

    joined: bool = True
    negative_first: bool = True
    argument: str = "guidance_scale"
    offset: float = 0.0
    padded_front: bool = False
    negative: str | None = None


JOINED, SEPARATE = Layout(), Layout(joined=False)
LAYOUTS: dict[str, Layout] = {
    "StableDiffusionPipeline": JOINED,
    "StableDiffusionXLPipeline": JOINED,
    "PixArtAlphaPipeline": JOINED,
    "PixArtSigmaPipeline": JOINED,
    "HunyuanDiTPipeline": JOINED,
    "StableDiffusion3Pipeline": JOINED,
    "AuraFlowPipeline": JOINED,
    "KolorsPipeline": JOINED,
    "SanaPipeline": JOINED,
    "ZImagePipeline": Layout(negative_first=False, offset=1.0),
    "Lumina2Pipeline": SEPARATE,
    "CogView4Pipeline": Layout(joined=False, padded_front=True),
    "ChromaPipeline": SEPARATE,
    "Flux2KleinPipeline": SEPARATE,
    "QwenImagePipeline": Layout(joined=False, argument="true_cfg_scale", negative=" "),
    "FluxPipeline": Layout(joined=False, argument="true_cfg_scale", negative=""),
}
EMBEDDED = (
    "{name} has no classifier-free guidance: it is guidance-distilled and takes the scale as an input of the denoiser, "
    "so there are no two halves to compare; use masks='cfg' (--guidance cfg) or a model that is not distilled"
)
DISTILLED = (
    "{name} has no classifier-free guidance: it is distilled to few steps and needs none; use masks='cfg' "
    "(--guidance cfg) or a model that is not distilled"
)


def guidance_layout(backbone: Backbone, name: str) -> Layout:
    """How the backbone's pipeline guides.

    Raises:
        ValueError: a model without classifier-free guidance; the message calls it ``name`` and says what it has.
    """
    reason = refusal(backbone)
    if reason:
        raise ValueError(reason.format(name=name))
    return LAYOUTS[type(backbone.pipeline).__name__]


def plain_layout(backbone: Backbone) -> Layout:
    """How the pipeline takes a scale, be it guided or distilled, which has an argument of its own for that."""
    return JOINED if refusal(backbone) else LAYOUTS[type(backbone.pipeline).__name__]


def refusal(backbone: Backbone) -> str | None:
    """Why the model has no classifier-free guidance, if so, with a place for its name."""
    config, pipeline = backbone.denoiser.config, backbone.pipeline
    if config.get("guidance_embeds") or config.get("time_cond_proj_dim"):
        return EMBEDDED
    few_steps = pipeline.config.get("is_distilled") or "schnell" in str(pipeline.name_or_path).lower()
    return DISTILLED if few_steps or type(pipeline).__name__ not in LAYOUTS else None


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
