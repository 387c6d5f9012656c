"""``with SemanticGuidance(pipeline): pipeline(prompt)``: guidance that differs by region, on stock pipelines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from goca._moved import warn
from goca.backbones.hooks import uncompiled
from goca.guidance.outputs import picture
from goca.guidance.pipelines import CALLBACKS, around_calls, guidance_layout, latent_size, plain_layout, prompts_of
from goca.guidance.run import GuidanceStep, Plan, Run
from goca.lookup import Names, look_up
from goca.maps.aggregate import Aggregation, MapAggregator
from goca.method import MASKS
from goca.notes import notify
from goca.ranges import LARGEST_SCALE, check_number, check_whole
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.text.prompt import build_prompt
from goca.text.spans import TokenSpans
from goca.text.tokens import PromptTokens, read_prompt, shorten
from goca.types import Prompt

Progress = Callable[[int, int], None]
SEGMENT_AT = 1.5  # of the spec's timestep: best of all steps on both embedded models
NOTHING_NAMED = "the prompt {prompt!r} names nothing, so its image is drawn with plain guidance"
WEAK = "guidance needs a scale above 1, not {scale:g}; pass {argument}=5, for example (goca generate: --scale 5)"
NOTHING_RECORDED = (
    "nothing was recorded to segment by; pass segment=True and call the pipeline first, "
    "and if it is to stop early, let one of its callbacks stop it"
)
NO_NEGATIVE = "{name} guides only against a second prompt; pass negative_prompt={negative!r} beside true_cfg_scale"


@dataclass
class Drawn:
    """What is known of one call of the pipeline: its steps if they are traced, sentences for the user, and of each
    image its prompt and what was recorded for a segmentation, if that was asked for."""

    steps: Sequence[GuidanceStep] = ()
    notes: Sequence[str] = ()
    prompts: Sequence[PromptTokens] = ()
    recorded: Sequence[MapAggregator | None] = ()


class SemanticGuidance:
    """Context manager in which a diffusers pipeline gives each region of the image its own guidance strength (S-CFG).

    The pipeline is called as always, once or more often, and its denoiser runs as often as before: masks come from the
    attention of the guided halves themselves. On leaving, also after an exception, nothing is left behind.

    Several threads may call the pipeline inside the context, or each in one of its own; their calls run one after the
    other. Other calls of the models, by a callback for example, are not guided.

    Args:
        model: a pipeline that uses classifier-free guidance, or a :class:`goca.Segmenter`, whose settings are then
            used for the masks.
        masks: ``"goca"``; ``"s-cfg"``, the original rule, which averages heads and layers; or ``"cfg"``, plain
            guidance.
        every: recompute the masks every so many steps and reuse them between; the rate is recomputed every step.
        interval: part of the steps, from 0 (noise) to 1 (image), in which masks are used; plain guidance elsewhere.
        segment: keep what :meth:`segmentation` needs.
        trace: keep masks and rates of every step in :attr:`steps`.
        progress: gets (steps done, steps in all) as each step begins; an exception that it raises ends the call. It is
            not called with plain guidance that segments nothing.

    Raises:
        ValueError: unknown masks, a step or an interval that makes no sense, or a model without classifier-free
            guidance; on entering, a pipeline that this thread guides already. A call of the pipeline inside the context
            raises it for a scale of 1 or less and for a prompt that is longer than the text encoder takes.
    """

    def __init__(
        self,
        model: Any,
        masks: str = "goca",
        *,
        every: int = 1,
        interval: tuple[float, float] = (0.0, 1.0),
        segment: bool = False,
        trace: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> None:
        if masks == "none":
            warn("masks='none'", "masks='cfg'")
            masks = "cfg"
        chosen = look_up(MASKS, masks, "masks")
        check_whole("every", every, 1)
        if not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError(f"the interval is a part of 0 to 1 like (0.2, 0.8), not {interval}")
        self.segmenter = model if isinstance(model, Segmenter) else Segmenter.from_pipeline(model)
        self.method = None if chosen is None else self.segmenter.resolve(chosen)
        self.every, self.interval, self.segment, self.trace = every, interval, segment, trace
        self.progress = progress
        backbone = self.segmenter.model.backbone
        name = self.segmenter.model.spec.name
        self._layout = plain_layout(backbone) if self.method is None else guidance_layout(backbone, name)
        self._last = Drawn()
        self._thread = threading.local()
        self._cleanup = ExitStack()

    @property
    def steps(self) -> list[GuidanceStep]:
        """Of the last call (in a thread that called the pipeline, of its own last call), with ``trace``."""
        return list(self._drawn.steps)

    @property
    def notes(self) -> list[str]:
        """Sentences about that call which the user should read."""
        return list(self._drawn.notes)

    def __enter__(self) -> SemanticGuidance:
        if self.method is not None or self.segment:
            self._cleanup.enter_context(around_calls(self.segmenter.model.pipeline, self._guide))
        return self

    def __exit__(self, *_error: object) -> None:
        self._cleanup.close()

    def segmentation(self, image: Image | np.ndarray | Tensor, classes: Names, index: int = 0) -> Segmentation:
        """Segment an image of the last call by what was recorded while it was drawn, without another forward.

        The maps are those of the step next to the timestep of the segmenter's method; where that leaves it to the
        model, next to 1.5 times the timestep at which the model segments given images. Of a call that stops before
        that step they are those of its last one.

        Args:
            image: what the pipeline gave, with any ``output_type`` but latents.
            classes: things that the prompt names, as for :class:`goca.Segmenter`.
            index: which image of the call.

        Raises:
            ValueError: nothing was recorded, a class that the prompt does not mention, or no image.
        """
        drawn, segmenter = self._drawn, self.segmenter
        recorded = drawn.recorded[index] if index < len(drawn.recorded) else None
        if recorded is None:
            raise ValueError(NOTHING_RECORDED)
        aggregation = recorded.finish()
        prompt = self._class_prompt(classes, drawn.prompts[index], aggregation)
        maps = segmenter.class_maps(aggregation, prompt, segmenter.resolve())
        result = segmenter.segmentation(picture(image), maps)
        notify(result.notes)
        return result

    def check_scale(self, scale: float) -> None:
        """Raise ``ValueError`` for a scale out of range, or at which the pipeline does not guide."""
        check_number("the guidance scale", scale, 0.0, LARGEST_SCALE)
        if self.method is not None and scale + self._layout.offset <= 1:
            raise ValueError(WEAK.format(scale=scale, argument=self._layout.argument))

    def region_words(self, index: int = 0) -> tuple[str, ...]:
        """What the regions of an image of the last call stand for, in their order; a special token is blank."""
        prompt = self._drawn.prompts[index]
        return tuple(prompt.words.get(token, "") for token in prompt.candidates)

    @property
    def _drawn(self) -> Drawn:
        return getattr(self._thread, "drawn", self._last)

    @_drawn.setter
    def _drawn(self, drawn: Drawn) -> None:
        self._last = self._thread.drawn = drawn

    def _class_prompt(self, classes: Names, prompt: PromptTokens, aggregation: Aggregation) -> Prompt:
        backbone, spec = self.segmenter.model.backbone, self.segmenter.model.spec
        shift = len(aggregation.token_maps) - prompt.end if self._layout.padded_front else 0

        def token_spans(_text: str) -> list[TokenSpans]:
            """Of the prompt as it was written: in small letters it may have other tokens."""
            return [
                TokenSpans({token + shift: span for token, span in each.spans.items()}, each.limit + shift)
                for each in backbone.token_spans(prompt.text)
            ]

        with backbone.turn():
            return build_prompt(
                classes, token_spans, caption=prompt.text, vocabulary=spec.vocabulary, max_length=backbone.max_tokens
            )

    @contextmanager
    def _guide(self, arguments: Mapping[str, Any]) -> Iterator[None]:
        """One call of the pipeline."""
        backbone = self.segmenter.model.backbone
        self._drawn = Drawn()
        if self.method is not None:
            self.check_scale(float(arguments[self._layout.argument] or 0))
            negative = self._layout.negative
            if negative is not None and arguments.get("negative_prompt") is None:
                raise ValueError(NO_NEGATIVE.format(name=self.segmenter.model.spec.name, negative=negative))
        texts = [read_prompt(backbone, text) for text in prompts_of(self.segmenter.model.pipeline, arguments)]
        notes = [
            NOTHING_NAMED.format(prompt=shorten(each.text))
            for each in texts
            if not each.names_something and self.method
        ]
        repeats = arguments.get("num_images_per_prompt") or 1
        prompts = [text for text in texts for _ in range(repeats)]
        run = Run(
            Plan(
                segmenter=self.segmenter,
                layout=self._layout,
                method=self.method,
                prompts=prompts,
                scale=lambda: self._scale(arguments),
                packed_size=lambda: latent_size(backbone, arguments),
                every=self.every,
                interval=self.interval,
                chosen=self._chosen,
                stoppable=any({**arguments, **arguments.get("kwargs", {})}.get(name) for name in CALLBACKS),
                trace=self.trace,
                progress=self.progress,
            )
        )
        denoiser = getattr(self.segmenter.model.pipeline, backbone.denoiser_name)
        with ExitStack() as stack:
            stack.enter_context(uncompiled())
            stack.push(run.stop)
            stack.callback(denoiser.register_forward_pre_hook(run.before, with_kwargs=True).remove)
            stack.callback(denoiser.register_forward_hook(run.after, with_kwargs=True).remove)
            try:
                yield
            finally:
                self._drawn = Drawn(run.steps, notes, prompts, run.kept)
        notify(notes)

    def _chosen(self, timesteps: list[float]) -> int | None:
        """Index of the step whose maps a segmentation is made of."""
        if not self.segment:
            return None
        wanted = self.segmenter.method.timestep or SEGMENT_AT * self.segmenter.model.spec.timestep
        return min(range(len(timesteps)), key=lambda index: abs(timesteps[index] - wanted))

    def _scale(self, arguments: Mapping[str, Any]) -> float:
        """The scale of the pipeline's formula; callbacks may change it between steps."""
        name = self._layout.argument
        scale = arguments[name] if name != "guidance_scale" else None
        if scale is None:
            scale = getattr(self.segmenter.model.pipeline, "guidance_scale", arguments["guidance_scale"])
        return float(scale) + self._layout.offset
