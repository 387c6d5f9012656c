"""One call of a pipeline: records the denoiser's calls, makes masks of them and changes what the denoiser returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from goca.ambient import neutral
from goca.backbones.settings import GuidanceLayout
from goca.backbones.turns import calling
from goca.guidance.scfg import adjusted_uncond, guidance_rate, region_masks
from goca.maps.aggregate import Aggregation, MapAggregator
from goca.method import ResolvedMethod
from goca.segmenter import Segmenter
from goca.text.tokens import PromptTokens
from goca.types import Grid, LayerRecord

POSITIVE, NEGATIVE, SEGMENT = "positive", "negative", "segment"


@dataclass(frozen=True)
class Regions:
    """Masks of one image on the grid of its noise: one per candidate token, a pixel's values summing to 1, and the
    foreground."""

    masks: Float[Tensor, "tokens height width"]
    foreground: Float[Tensor, "height width"]


@dataclass(frozen=True)
class GuidanceStep:
    """What one step did: per image its regions and its rate; ``None`` for an image drawn with plain guidance."""

    index: int
    timestep: float
    regions: tuple[Regions | None, ...]
    rates: tuple[Float[Tensor, "height width"] | None, ...]


@dataclass
class Plan:
    """What a run is asked to do.

    Attributes:
        method: how masks are made; ``None`` leaves guidance as it is.
        prompts: one per image.
        scale: the guidance scale of the moment.
        packed_size: rows and columns of the latents, for pipelines that pack them.
        chosen: the step whose recordings a segmentation needs, from the timesteps of the steps to come.
        stoppable: whether the pipeline may stop before that step; then every step before it is recorded too.
        progress: gets (steps done, steps in all) as each step begins.
    """

    segmenter: Segmenter
    layout: GuidanceLayout
    method: ResolvedMethod | None
    prompts: list[PromptTokens]
    scale: Callable[[], float]
    packed_size: Callable[[], Grid]
    every: int
    interval: tuple[float, float]
    chosen: Callable[[list[float]], int | None]
    stoppable: bool
    trace: bool
    progress: Callable[[int, int], None]


class Run:
    """Hooks of the denoiser during one call of the pipeline; they leave other calls of the denoiser alone.

    Attributes:
        steps: what was done, where it is traced.
        kept: what was recorded of each image at the chosen step, or at the last one that ran before it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.caller = calling()
        self.backbone = plan.segmenter.model.backbone
        self.steps: list[GuidanceStep] = []
        self.kept: list[MapAggregator | None] = [None for _ in plan.prompts]
        self.regions: list[Regions | None] | None = None
        self.made_at = 0
        self.index = -1
        self.timesteps: list[float] = []
        self.chosen: int | None = None
        self.latents: Tensor | None = None
        self.text_noise: Tensor | None = None
        self.aggregators: dict[tuple[str, int], MapAggregator] = {}
        self.parts: list[tuple[str, int]] = []
        self.recording = ExitStack()

    def before(self, _module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide what this call of the denoiser is, and record what is needed of it."""
        if calling() is self.caller:
            with neutral():
                self._before(args, kwargs)

    def after(self, _module: object, _args: object, _kwargs: object, output: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Make masks and rates of what was recorded, and hand on a changed prediction."""
        if calling() is not self.caller:
            return None
        with neutral():
            return self._after(output)

    def _before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        images = range(len(self.plan.prompts))
        given = args[0] if args else next(kwargs[name] for name in ("hidden_states", "sample", "x") if name in kwargs)
        latents = torch.stack(given) if isinstance(given, list) else given
        again = self.latents is not None and torch.equal(latents[: len(images)], self.latents)
        positive, negative = [(POSITIVE, image) for image in images], [(NEGATIVE, image) for image in images]
        if len(latents) == 2 * len(images) and not again:
            self.parts = negative + positive if self.plan.layout.negative_first else positive + negative
        elif again and not self.plan.layout.joined and self.text_noise is not None:
            self.parts = negative
        elif len(latents) == len(images) and not again:
            self.parts = positive
        else:
            self.parts = []
        if not again:
            if not self.timesteps:
                pipeline = self.backbone.pipeline
                self.timesteps = [float(time) for time in pipeline.scheduler.timesteps.tolist()]
                steps = getattr(pipeline, "num_timesteps", None)  # fewer with denoising_end
                self.chosen = self.plan.chosen(self.timesteps[:steps])
            self.index += 1
            self.plan.progress(self.index, len(self.timesteps))
            self.latents = latents[: len(images)].clone()  # a callback may change them in place
            self.aggregators.clear()
            self.text_noise = None
        self._start_recording(latents)

    def _after(self, output: tuple[Any, ...]) -> tuple[Any, ...] | None:
        self.recording.close()
        noise = torch.stack(output[0]) if isinstance(output[0], list) else output[0]
        found = {part for part, _ in self.parts}
        if POSITIVE in found:
            self._keep_for_segmentation()
        if self.plan.method is None or not self._active:
            return None
        if found == {POSITIVE}:
            self.text_noise = noise
            return None
        if not found or self.plan.scale() <= 1:
            return None
        at = {part: index for index, part in enumerate(self.parts)}
        if self._masks_due:
            self._make_regions(noise)
        texts = self.text_noise
        if POSITIVE in found:
            texts = noise[[at[POSITIVE, image] for image in range(len(self.plan.prompts))]]
        assert self.regions is not None and texts is not None
        changed, rates = noise.clone(), []
        for image, regions in enumerate(self.regions):
            rate = None
            if regions is not None:
                row = at[NEGATIVE, image]
                rate = self._rate(noise[row], texts[image], regions)
                spread = rate.flatten()[:, None] if self._packed else rate
                changed[row] = adjusted_uncond(noise[row], texts[image], spread, self.plan.scale())
            rates.append(rate)
        if self.plan.trace:
            self.steps.append(GuidanceStep(self.index, self.timesteps[self.index], tuple(self.regions), tuple(rates)))
        return (list(changed.unbind()) if isinstance(output[0], list) else changed, *output[1:])

    def stop(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave a recording that an exception has left open."""
        self.recording.__exit__(kind, error, traceback)

    @property
    def _active(self) -> bool:
        first, last = self.plan.interval
        return first <= self.index / len(self.timesteps) < last

    @property
    def _kept_for_segmentation(self) -> bool:
        if self.chosen is None:
            return False
        return self.index == self.chosen or (self.plan.stoppable and self.index < self.chosen)

    @property
    def _masks_due(self) -> bool:
        return self.regions is None or self.index - self.made_at >= self.plan.every

    @property
    def _packed(self) -> bool:
        return self.latents is not None and self.latents.ndim == 3

    def _start_recording(self, latents: Tensor) -> None:
        """Make the aggregators that this call's rows feed, and listen."""
        plan, segmenter = self.plan, self.plan.segmenter
        size = plan.packed_size() if self._packed else (latents.shape[-2], latents.shape[-1])
        receivers: list[list[MapAggregator]] = []
        for part, image in self.parts:
            wanted: dict[str, ResolvedMethod] = {}
            prompt = plan.prompts[image]
            if plan.method is not None and self._active and self._masks_due and prompt.names_something:
                if part == POSITIVE:
                    wanted[POSITIVE] = plan.method
                elif prompt.has_start:
                    wanted[NEGATIVE] = replace(plan.method, refine_order=0)
            if part == POSITIVE and self._kept_for_segmentation:
                wanted[SEGMENT] = segmenter.resolve()
            made = {
                (use, image): segmenter.aggregator(method, size, fast=segmenter.fast or use == NEGATIVE)
                for use, method in wanted.items()  # of the negative half one map is used, and that is thresholded
            }
            self.aggregators |= made
            receivers.append(list(made.values()))
        layers = {layer for aggregators in receivers for each in aggregators for layer in each.layers}
        if not layers:
            return

        def add_record(row: int, record: LayerRecord) -> None:
            for aggregator in receivers[row]:
                aggregator.add(record)

        rows = [row for row, aggregators in enumerate(receivers) if aggregators]
        self.recording.enter_context(self.backbone.recording(size, add_record, layers, rows))

    def _keep_for_segmentation(self) -> None:
        for image in range(len(self.kept)):
            if (SEGMENT, image) in self.aggregators:
                self.kept[image] = self.aggregators.pop((SEGMENT, image))

    def _make_regions(self, noise: Tensor) -> None:
        self.regions, self.made_at = [], self.index
        size = self.backbone.grid(self.backbone.reference_layer, *self.plan.packed_size()) if self._packed else None
        for image, prompt in enumerate(self.plan.prompts):
            if (POSITIVE, image) not in self.aggregators:
                self.regions.append(None)
                continue
            positive = self.aggregators[POSITIVE, image].finish()
            negative = self.aggregators[NEGATIVE, image].finish() if prompt.has_start else None
            self.regions.append(
                self._regions_of(prompt, positive, negative, size or (noise.shape[-2], noise.shape[-1]))
            )
        self.aggregators.clear()

    def _regions_of(
        self, prompt: PromptTokens, positive: Aggregation, negative: Aggregation | None, size: Grid
    ) -> Regions:
        method = self.plan.method
        assert method is not None
        tokens = len(positive.token_maps)
        if self.plan.layout.padded_front:
            prompt = prompt.shifted(tokens - prompt.end)
        start = positive.token_maps[min(prompt.end, tokens - 1)] if negative is None else negative.token_maps[0]
        masks, foreground = region_masks(
            positive, start, prompt.candidates, prompt.content_tokens, method.method.rescale, method.refine_order, size
        )
        return Regions(masks / masks.sum(dim=0), foreground)

    def _rate(self, uncond: Tensor, text: Tensor, regions: Regions) -> Float[Tensor, "height width"]:
        """The rate of one image, whose halves may be packed or carry a learned variance."""
        assert self.latents is not None
        rows, columns = regions.foreground.shape

        def as_image(half: Tensor) -> Tensor:
            half = half.T if self._packed else half[:channels]
            return half.reshape(-1, rows, columns)

        channels = self.latents.shape[1]
        return guidance_rate(as_image(uncond), as_image(text), regions.masks, regions.foreground, self.plan.scale())
