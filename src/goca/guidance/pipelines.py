"""How a pipeline guides, and following its calls."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from goca.backbones.base import Backbone
from goca.backbones.settings import JOINED, GuidanceLayout, find_pipeline
from goca.backbones.turns import Turn, models_turn, pipeline_turn, separate_calls
from goca.shared import SharedChange, Undo
from goca.types import Grid

CALLBACKS = ("callback_on_step_end", "callback")  # arguments of pipelines; the second is the older one
PATCHED = "_goca_calls_are_guided"

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

TWICE = "this pipeline is inside another SemanticGuidance already; leave that one first"
SEVERAL = (
    "several threads are inside a SemanticGuidance of this pipeline, and this thread is in none; "
    "enter one in the thread that calls the pipeline"
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


@dataclass(frozen=True, eq=False)
class _Guide:
    """What runs around a pipeline's calls, and the thread that entered it."""

    thread: int
    around: Callable[[Mapping[str, Any]], AbstractContextManager[None]]


_guides: dict[int, list[_Guide]] = {}  # by the id of the pipeline, which the contexts keep alive
_registry = threading.RLock()


@contextmanager
def around_calls(pipeline: Any, around: Callable[[Mapping[str, Any]], AbstractContextManager[None]]) -> Iterator[None]:
    """Run the calls of this one pipeline inside the context manager that ``around(arguments)`` gives.

    Calls from several threads run one after the other. A thread's calls run inside what the thread has entered, and
    those of a thread that has entered nothing inside what the only other one has. While a callback of the caller runs,
    the models are free for other calls, which hooks of this call do not see.

    Raises:
        ValueError: the thread is inside such a context of the pipeline already.
    """
    guide = _Guide(threading.get_ident(), around)
    with _registry:
        guides = _guides.setdefault(id(pipeline), [])
        if any(each.thread == guide.thread for each in guides):
            raise ValueError(TWICE)
        guides.append(guide)
    try:
        with _patched(pipeline):
            yield
    finally:
        with _registry:
            guides.remove(guide)
            if not guides:
                del _guides[id(pipeline)]


def _guide_of(pipeline: Any) -> _Guide:
    """Whose guidance a call of this thread gets."""
    with _registry:
        guides = _guides[id(pipeline)]
        own = [each for each in guides if each.thread == threading.get_ident()] or guides
    if len(own) > 1:
        raise ValueError(SEVERAL)
    return own[0]


def _patch(pipeline: Any) -> Undo | None:
    """Give the object a subclass of the same name, because Python looks ``__call__`` up on the class."""
    kind = type(pipeline)
    if PATCHED in vars(kind):
        return None
    signature = inspect.signature(kind.__call__)

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        guide = _guide_of(self)
        bound = signature.bind(self, *args, **kwargs)
        with pipeline_turn(self), models_turn(self) as turn:
            for given in (bound.arguments, bound.arguments.get("kwargs", {})):
                given.update({name: _outside(given[name], turn) for name in CALLBACKS if given.get(name) is not None})
            args, kwargs = bound.args, bound.kwargs
            bound.apply_defaults()
            with guide.around(bound.arguments):
                return kind.__call__(*args, **kwargs)

    members = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__, PATCHED: True}
    pipeline.__class__ = type(kind.__name__, (kind,), members)
    return partial(setattr, pipeline, "__class__", kind)


def _outside(callback: Any, turn: Turn) -> Any:
    """A callback of the caller that runs outside of the pipeline's call: what it computes is none of it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with turn.lent(), separate_calls():
            return callback(*args, **kwargs)

    if not isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        return call
    call.tensor_inputs = callback.tensor_inputs  # type: ignore[attr-defined]
    return MultiPipelineCallbacks([call])


def _hide_progress(pipeline: Any) -> Undo | None:
    before = vars(pipeline).get("_progress_bar_config")
    if before is not None and before.get("disable"):
        return None
    pipeline.set_progress_bar_config(**{**(before or {}), "disable": True})
    if before is None:
        return partial(delattr, pipeline, "_progress_bar_config")
    return partial(setattr, pipeline, "_progress_bar_config", before)


def _complete_steps(scheduler: Any) -> Undo | None:
    step = scheduler.step
    if "step" in vars(scheduler):
        return None

    @wraps(step)
    def complete(*args: Any, **kwargs: Any) -> Any:
        values = step(*args, **kwargs)
        return (*values, *values) if isinstance(values, tuple) and len(values) == 1 else values

    scheduler.step = complete
    return partial(delattr, scheduler, "step")


_patched = SharedChange(_patch)
without_progress_bar = SharedChange(_hide_progress)
"""Inside ``with without_progress_bar(pipeline):`` the pipeline shows none."""
complete_steps = SharedChange(_complete_steps)
"""Inside ``with complete_steps(scheduler):`` a step has a second value. PixArt's pipelines read it where a call has one
step only, and few schedulers give it."""


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
