"""The whole flow: encode, record, aggregate, rescale, refine, label."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, wraps
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import ImageOps
from PIL.Image import Image
from torch import Tensor

from goca._moved import warn
from goca.absence import CAPTIONED, find_absent
from goca.ambient import neutral
from goca.backbones.base import Conditioning
from goca.backbones.fingerprint import text_fingerprint
from goca.backbones.given_tokens import encode_checked
from goca.backbones.noise import Timestep
from goca.backbones.turns import evaluating
from goca.calibration import CALIBRATION, Calibration, load_calibration, plain
from goca.classes import BACKGROUND
from goca.images import ImageSource, fit_as_published, fit_to_model, read_image
from goca.lookup import Names, look_up, read_names
from goca.maps.aggregate import Aggregation, MapAggregator
from goca.maps.post import post_process
from goca.maps.refine import refine
from goca.maps.rescale import rescale
from goca.maps.temporal import TemporalAverage
from goca.maps.upsample import BILINEAR, UPSAMPLING
from goca.maps.views import flip, mean_maps
from goca.method import Method, ResolvedMethod, View, check, find_method, resolve
from goca.models import LoadedModel, load, memory_errors, wrap
from goca.models.fingerprint import fingerprint
from goca.models.specs import DEFAULT_MODEL, MODELS, WEIGHTS
from goca.notes import notify
from goca.observation import Explanation, LayerObserver, build_explanation, layer_index, record_file, text_positions
from goca.ranges import LARGEST_SIDE, check_number, check_seed, check_whole
from goca.render import Colour, add_colours
from goca.result import Segmentation
from goca.text.prompt import build_prompt
from goca.tiles import TilePlan, Tiles, check_resolution, plan_tiles, score_tiles
from goca.types import Grid, LayerRecord, Prompt, ScoreMaps

Images = ImageSource | Sequence[ImageSource]
BATCH = 8
KEPT_PROMPTS = 64
UNFAMILIAR = (
    "this image does not look like the drawn scenes that {name} knows, so expect little of the result; "
    "for photographs take a big model, e.g. --model sd15"
)
ONE_CLASS = (
    "{name!r} gets every pixel because nothing competes with it; name what else is in the image, "
    "with --classes or --background"
)

P = ParamSpec("P")
R = TypeVar("R")


def batches(images: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    """So many images at a time, in order."""
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch


def in_turn(method: Callable[Concatenate[Segmenter, P], R]) -> Callable[Concatenate[Segmenter, P], R]:
    """A method during which no other thread uses the model, see :meth:`goca.backbones.Backbone.turn`."""

    @wraps(method)
    def call(self: Segmenter, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.model.backbone.turn():
            return method(self, *args, **kwargs)

    return call


class Segmenter:
    """Segments images with a text-to-image diffusion model that was never trained for it (GoCA, arXiv 2603.06178).

    Threads may share a segmenter, or a model: their calls wait for each other, and give what they give alone. Calls do
    not depend on torch's autocast, gradient mode, default number type or default device.

    Args:
        model: a loaded model, see :func:`goca.models.load`; mostly made by :meth:`from_pretrained`.
        method: how attention becomes labels: a :class:`Method`, the name of a preset or baseline, or ``None`` for the
            model's own preset.
        fast: trade a little accuracy for time: weigh the layers by one in sixteen pixels, leave out the layers after
            the last that the refinement needs, and leave the denoiser there.
        size: side in pixels of the square the images are resized to, instead of the one the model was trained on.
        keep_aspect: resize to the image's own shape, at the area of that square, instead of to the square.
        calibration: what turns the raw scores of masks into :attr:`goca.Segmentation.confidence`: what ``goca
            calibrate`` fitted, or the path of its file. By default that of the embedded models, as they come.

    Raises:
        ValueError: a size that the model cannot take, an unknown preset, a method that cannot work on the model, or a
            calibration of another model or method.
    """

    def __init__(
        self,
        model: LoadedModel,
        method: Method | str | None = None,
        *,
        fast: bool = False,
        size: int | None = None,
        keep_aspect: bool = False,
        calibration: Calibration | str | Path | None = None,
    ) -> None:
        if size is not None:
            multiple = model.backbone.size_multiple
            if check_whole("size", size, 1, LARGEST_SIDE) % multiple:
                raise ValueError(f"{model.spec.name} takes sizes that are multiples of {multiple}, not {size}")
            model = replace(model, spec=replace(model.spec, image_size=size))
        self.model = model
        self.fast = fast
        self.keep_aspect = keep_aspect
        self._method = self.resolve(model.spec.preset if method is None else method)
        self._conditionings: dict[Hashable, Conditioning] = {}
        self._calibration: Calibration | None = None
        if calibration is not None:
            self._calibration = calibration if isinstance(calibration, Calibration) else load_calibration(calibration)
            self._check_calibration(self._calibration)

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT_MODEL,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        offload: str | None = None,
        lora: str | None = None,
        method: Method | str | None = None,
        fast: bool = False,
        size: int | None = None,
        keep_aspect: bool = False,
        calibration: Calibration | str | Path | None = None,
    ) -> Segmenter:
        """Load a model by its name in :func:`goca.list_models`, a hub id, the local folder of a diffusers pipeline, or
        a single-file checkpoint; see :func:`goca.models.load` for the first arguments, the class for the others."""
        if method is not None:
            method = find_method(method)
        if name in MODELS:
            check(method or find_method(MODELS[name].preset), MODELS[name])
        model = load(name, device=device, dtype=dtype, revision=revision, offload=offload, lora=lora)
        return cls(model, method, fast=fast, size=size, keep_aspect=keep_aspect, calibration=calibration)

    @classmethod
    def from_pipeline(
        cls, pipeline: Any, method: Method | str | None = None, *, name: str = "", **options: Any
    ) -> Segmenter:
        """Take a diffusers pipeline that is already in memory, however it was made: quantised, compiled, offloaded,
        with LoRA on top.

        Args:
            pipeline: of a supported class; it comes back from every call as it was.
            name: a name of :func:`goca.list_models` whose settings to use; they are derived from the architecture by
                default.
            options: as of the class.
        """
        return cls(wrap(name or type(pipeline).__name__, pipeline), method, **options)

    @property
    def method(self) -> Method:
        """How attention becomes labels, unless a call names another method."""
        return self._method.method

    @property
    def calibrated_settings(self) -> dict[str, Any]:
        """What a calibration holds for, as JSON values: the model, its weights and how it segments."""
        return {**self._settings_of(self._method), "weights": fingerprint(self.model.pipeline)}

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns raw scores into confidences; ``None`` where none was measured for this model, as it is, by this
        method."""
        if self._calibration is not None:
            return self._calibration
        path = WEIGHTS / self.model.spec.name / CALIBRATION
        if not path.is_file():
            return None
        found = load_calibration(path)
        return found if self._is_for(found, self._method, weights=True) else None

    def _calibration_for(self, method: ResolvedMethod, error: float) -> Calibration | None:
        """The same for a method of a single call and an image with that error; ``None`` for an image unlike those that
        the model knows, on which no calibration was fitted."""
        calibration = None if self._unfamiliar(error) else self.calibration
        if calibration is None or method == self._method:
            return calibration
        return calibration if self._is_for(calibration, method) else None

    def _is_for(self, calibration: Calibration, method: ResolvedMethod, *, weights: bool = False) -> bool:
        """Whether a calibration was fitted for a method; for the ``weights`` too, which take time to read and are so
        compared last."""
        others = {key: value for key, value in calibration.settings.items() if key != "weights"}
        if others != plain(self._settings_of(method)):
            return False
        return not weights or calibration.settings.get("weights") == plain(fingerprint(self.model.pipeline))

    def _unfamiliar(self, error: float) -> bool:
        """Whether an image is unlike those that the model knows, see :meth:`score`."""
        threshold = self.model.spec.ood_threshold
        return threshold is not None and error > threshold

    def _settings_of(self, method: ResolvedMethod) -> dict[str, Any]:
        """What a calibration holds for, without the weights."""
        spec = self.model.spec
        settings = {"model": spec.name, "method": method.settings}
        return {**settings, "fast": self.fast, "size": spec.image_size, "keep_aspect": self.keep_aspect}

    def _check_calibration(self, calibration: Calibration) -> None:
        own = plain(self.calibrated_settings)
        other = next((key for key in own if calibration.settings.get(key) != own[key]), None)
        if other is not None:
            raise ValueError(
                f"the calibration was fitted for other settings (another {other}); fit one for these with goca "
                "calibrate --out"
            )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str, but always means one path here
        self,
        images: ImageSource,
        classes: Names,
        *,
        caption: str | None = None,
        background: Names = (),
        threshold: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        method: Method | str | None = None,
        ignore_below: float = 0.0,
        drop_absent: bool = False,
        tiles: Tiles | None = None,
        upsample: str = BILINEAR,
    ) -> Segmentation: ...
    @overload
    def __call__(
        self,
        images: Sequence[ImageSource],
        classes: Names | Sequence[Names],
        *,
        caption: str | Sequence[str | None] | None = None,
        background: Names = (),
        threshold: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        method: Method | str | None = None,
        ignore_below: float = 0.0,
        drop_absent: bool = False,
        tiles: Tiles | None = None,
        upsample: str = BILINEAR,
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        images: Images,
        classes: Names | Sequence[Names],
        *,
        caption: str | Sequence[str | None] | None = None,
        background: Names = (),
        threshold: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        method: Method | str | None = None,
        ignore_below: float = 0.0,
        drop_absent: bool = False,
        tiles: Tiles | None = None,
        upsample: str = BILINEAR,
    ) -> Segmentation | list[Segmentation]:
        """Segment one image or a list of images into the given classes.

        Args:
            images: path, PIL image or uint8 array (height, width, 3); or a list of these.
            classes: names of the classes, a list or a string with commas; synonyms are separated by ``|``, and each
                that the text has counts, see :func:`goca.text.prompt.build_prompt`. Or a list with a list of names for
                each image.
            caption: a text that mentions each class by one of its synonyms at least; without it the text is all of
                them, separated by commas. Or a list with one for each image.
            background: phrases that stand for everything else, e.g. ``["background"]``.
            threshold: of the background, instead of the method's; there is a background then.
            batch_size: images that share a forward of the denoiser, 8 by default; always 1 with ``keep_aspect``.
            seed: of the noise. The other images of the list change an image's maps by rounding at most.
            method: a method, or the name of one, for this call instead of the segmenter's own.
            ignore_below: least margin of a pixel; the others get no class, see :meth:`goca.Segmentation.ignore`.
            drop_absent: leave out classes that seem not to be in the image, see :mod:`goca.absence`; it costs four
                plain forwards for each class and four more. The result's ``dropped`` holds them.
            tiles: look also at so many overlapping tiles along the longer side of each image, or ``"auto"``, so that
                small things are found; see :mod:`goca.tiles`. Every tile costs what an image costs.
            upsample: how the maps come to the image's size for its labels: ``"bilinear"``, or along the ``"edges"`` in
                the image, see :mod:`goca.maps.upsample`.

        Raises:
            ValueError: an image that cannot be read, classes that do not fit the model or the caption, or a method that
                cannot work on the model.
        """
        several = isinstance(images, Sequence) and not isinstance(images, str)
        sources: Sequence[ImageSource] = images if several else [images]  # type: ignore[assignment,list-item]
        options: dict[str, Any] = {"background": background, "threshold": threshold, "seed": seed, "method": method}
        options |= {"ignore_below": ignore_below, "drop_absent": drop_absent, "tiles": tiles, "upsample": upsample}
        size = BATCH if batch_size is None else batch_size
        results = list(self.stream(sources, classes, caption=caption, batch_size=size, **options))
        return results if several else results[0]

    def stream(
        self,
        images: Iterable[ImageSource],
        classes: Names | Sequence[Names],
        *,
        caption: str | Sequence[str | None] | None = None,
        background: Names = (),
        threshold: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        method: Method | str | None = None,
        ignore_below: float = 0.0,
        drop_absent: bool = False,
        tiles: Tiles | None = None,
        upsample: str = BILINEAR,
        temporal: float = 0.0,
    ) -> Iterator[Segmentation]:
        """The results of many images one after the other, of which one batch is held at a time.

        The next batch of ``images`` is read when the results of the last have been taken. The arguments are checked at
        once; they are those of :meth:`__call__`, but that without ``batch_size`` images have a forward each on a CPU.
        A class has the same colour in all results.

        Args:
            temporal: for frames of a video: weight in [0, 0.99] of the average of the maps before an image, see
                :class:`goca.maps.temporal.TemporalAverage`.

        Raises:
            ValueError: as of :meth:`__call__`; what concerns a single image, when its turn comes.
        """
        chosen = self.resolve(method, threshold)
        size = self.forward_batch(batch_size)
        count = len(images) if isinstance(images, Sequence) else None
        prompts = self._prompts(count, classes, caption, background)
        check_seed(seed)
        check_number("ignore_below", ignore_below, 0.0, 1.0)
        if drop_absent and caption is not None:
            raise ValueError(CAPTIONED)
        check_resolution(tiles, upsample)
        colours: dict[str, Colour] = {}
        average = TemporalAverage(temporal)

        def run() -> Iterator[Segmentation]:
            for batch in batches(images, size):
                pictures = [read_image(image) for image in batch]
                texts = list(islice(prompts, len(batch)))
                if len(texts) < len(batch):
                    raise ValueError("there are more images than lists of classes or captions; give each image one")
                asked = (ignore_below, drop_absent, tiles, upsample, average)
                results = self.segment_batch(pictures, texts, chosen, seed, *asked)
                for text, result in zip(texts, results, strict=True):
                    add_colours(colours, [*(each.name for each in text.classes), *result.classes])
                    yield result.with_colours(colours)

        return run()

    @property
    def batching_helps(self) -> bool:
        """Whether images may well share a forward: not on a CPU, where it barely saves time, nor with ``keep_aspect``,
        where their shapes differ."""
        return not self.keep_aspect and self.model.backbone.device.type != "cpu"

    def forward_batch(self, wanted: int | None = None) -> int:
        """Images that share a forward: as many as are wanted, or 8 where :attr:`batching_helps`; always 1 with
        ``keep_aspect``.

        Raises:
            ValueError: no whole number of at least 1.
        """
        if wanted is None:
            return BATCH if self.batching_helps else 1
        size = check_whole("batch_size", wanted, 1)
        return 1 if self.keep_aspect else size

    @in_turn
    def segment_batch(
        self,
        pictures: Sequence[Image],
        prompts: Sequence[Prompt],
        method: ResolvedMethod,
        seed: int = 0,
        ignore_below: float = 0.0,
        drop_absent: bool = False,
        tiles: Tiles | None = None,
        upsample: str = BILINEAR,
        average: Callable[[ScoreMaps], ScoreMaps] = lambda maps: maps,
    ) -> list[Segmentation]:
        """Segment images together, in one forward for each view; in halves where the memory does not hold them.

        Args:
            pictures: RGB images, upright, see :func:`goca.images.read_image`.
            prompts: one for each image, see :meth:`prompt`.
            method: see :meth:`resolve`.
            seed, ignore_below, drop_absent, tiles, upsample: see :meth:`__call__`.
            average: changes the maps of each image in turn.

        Raises:
            MemoryError: the memory does not hold one image. ValueError: tiles that are too small.
        """
        with memory_errors(self.model.spec.name):
            pairs = zip(pictures, prompts, strict=True)
            absent = [find_absent(self, *each, seed) for each in pairs] if drop_absent else []
        texts = [each.prompt for each in absent] or prompts
        scored = self._score_in_parts(pictures, texts, method, seed, tiles)
        with memory_errors(self.model.spec.name):
            results = [
                self.segmentation(picture, average(maps), method, error, bool(prompt.background), upsample)
                for picture, prompt, (maps, error) in zip(pictures, texts, scored, strict=True)
            ]
            usual = tiles is None and upsample == BILINEAR  # as calibrations are made
            curves = [self._calibration_for(method, error) if usual else None for _, error in scored]
            results = [replace(result, calibration=curve) for result, curve in zip(results, curves, strict=True)]
            if absent:
                results = [each.note(result) for each, result in zip(absent, results, strict=True)]
            if ignore_below:
                results = [result.ignore(ignore_below) for result in results]
        notify(note for result in results for note in result.notes)
        return results

    def _score_in_parts(
        self,
        pictures: Sequence[Image],
        prompts: Sequence[Prompt],
        method: ResolvedMethod,
        seed: int,
        tiles: Tiles | None,
    ) -> list[tuple[ScoreMaps, float]]:
        """The same as :meth:`_score_batch`, in halves where the memory does not hold all of it."""
        try:
            with memory_errors(self.model.spec.name):
                return self._score_batch(pictures, prompts, method, seed, tiles)
        except MemoryError:
            if len(pictures) == 1:
                raise
            half = len(pictures) // 2
            parts = ((pictures[:half], prompts[:half]), (pictures[half:], prompts[half:]))
            return [each for part in parts for each in self._score_in_parts(*part, method, seed, tiles)]

    def tile_plan(self, picture: Image, tiles: Tiles) -> TilePlan | None:
        """Where the tiles of a picture are, see :func:`goca.tiles.plan_tiles`."""
        return plan_tiles(picture.size, tiles, self.model.spec.image_size, self.model.spec.output_grid)

    def _score_batch(
        self,
        pictures: Sequence[Image],
        prompts: Sequence[Prompt],
        method: ResolvedMethod,
        seed: int,
        tiles: Tiles | None,
    ) -> list[tuple[ScoreMaps, float]]:
        """Refined maps and the prediction's error of each picture, of the whole or in tiles."""
        if tiles is not None:
            found = []
            for picture, prompt in zip(pictures, prompts, strict=True):
                plan = self.tile_plan(picture, tiles)
                if plan is None:
                    found += self._score_batch([picture], [prompt], method, seed, None)
                else:
                    found.append(score_tiles(self, picture, prompt, method, seed, plan))
            return found
        latents = self.encode(pictures)
        mirrored = self.encode(pictures, mirrored=True) if method.method.flip else None
        (scores,), errors = self.score(latents, prompts, [method.method], seed, mirrored)
        return list(zip(scores, errors, strict=True))

    def _prompts(
        self,
        count: int | None,
        classes: Names | Sequence[Names],
        captions: str | Sequence[str | None] | None,
        background: Names,
    ) -> Iterator[Prompt]:
        """The prompt of each image; without end where all have the same."""
        every_class: Any = classes
        every_caption: Any = captions
        lists = {}
        if isinstance(classes, list | tuple) and any(isinstance(each, list | tuple) for each in classes):
            lists["class lists"] = every_class
        if isinstance(captions, list | tuple):
            lists["captions"] = every_caption
        if not lists:
            return repeat(self.prompt(every_class, caption=every_caption, background=background))
        for kind, each in lists.items():
            if count not in (None, len(each)):
                raise ValueError(f"{len(each)} {kind} do not fit {count} images; give each image one")
        length = min(len(each) for each in lists.values())
        names = lists.get("class lists", [every_class] * length)
        texts = lists.get("captions", [every_caption] * length)
        prompts = [
            self.prompt(each, caption=text, background=background) for each, text in zip(names, texts, strict=False)
        ]
        return iter(prompts)

    @in_turn
    def explain(
        self,
        image: ImageSource,
        classes: Names,
        *,
        caption: str | None = None,
        background: Names = (),
        threshold: float | None = None,
        seed: int = 0,
        method: Method | str | None = None,
        layers: str | Sequence[str | int] | None = None,
        records: str | Path | None = None,
        overwrite: bool = False,
    ) -> Explanation:
        """Segment one image and keep what led to it: the maps of heads, layers and words, and the weights.

        Segmenting itself keeps none of this, which is why a result cannot be asked for it afterwards.

        Args:
            classes, caption, background, threshold, seed, method: as of :meth:`__call__`, whose result is the same.
            layers: names, or numbers counted from 0, of the aggregated layers whose head maps are kept; all by default.
                They are the largest part: 4 bytes x heads x tokens of the text x pixels for each layer.
            records: ``.npz`` file for queries, keys, values and weights of the aggregated layers, see
                :class:`goca.observation.RecordFile`; written layer by layer, never kept in memory.
            overwrite: replace that file where it is there already.

        Raises:
            ValueError: as of :meth:`__call__`, or a layer that is not aggregated. OSError: the file cannot be written.
        """
        chosen = self.resolve(method, threshold)
        picture, prompt = read_image(image), self.prompt(classes, caption=caption, background=background)
        backbone = self.model.backbone
        text = text_positions(backbone.token_spans(prompt.text))
        observed = [layer for layer in backbone.layers if layer in chosen.cross_layers]
        layers = read_names(layers, "layer") if isinstance(layers, str) else layers
        kept = observed if layers is None else [observed[layer_index(observed, layer)] for layer in layers]
        views: list[ScoreMaps] = []
        recording = record_file(records, overwrite=overwrite) if records else nullcontext()
        with memory_errors(self.model.spec.name), recording as file:
            observer = LayerObserver(observed, chosen.heads, prompt.content_tokens, text, kept, file)
            latents = self.encode([picture])
            mirrored = self.encode([picture], mirrored=True) if chosen.method.flip else latents
            conditioning, size = self.encode_prompts([prompt.text]), (latents.shape[-2], latents.shape[-1])
            for timestep, flipped in chosen.views:
                aggregator = self.aggregator(chosen, size)
                receivers: dict[int, list[MapAggregator] | list[LayerObserver]] = {0: [aggregator]}
                if not views:
                    receivers[1] = [observer]
                prediction = self._record(mirrored if flipped else latents, timestep, conditioning, seed, receivers)
                aggregation = aggregator.finish()
                if not views:
                    first, (error,) = aggregation, _errors(prediction, latents)
                scores = self.class_maps(aggregation, prompt, chosen)
                views.append(flip(scores) if flipped else scores)
        result = self.segmentation(picture, mean_maps(views), chosen, error, bool(prompt.background))
        result = replace(result, calibration=self._calibration_for(chosen, error))
        return build_explanation(result, self.model, chosen, prompt, first, observer)

    def resolve(self, method: Method | str | None = None, threshold: float | None = None) -> ResolvedMethod:
        """What a method, by default the segmenter's own, comes to on this model, see :func:`goca.method.resolve`."""
        if method is None and threshold is None:
            return self._method
        chosen = self.method if method is None else find_method(method)
        if threshold is not None:
            chosen = replace(chosen, threshold=threshold)
        return resolve(chosen, self.model.spec, self.model.backbone, self.fast)

    def passes(self, method: Method) -> list[View]:
        """The old name of ``resolve(method).views``."""
        warn("Segmenter.passes(method)", "Segmenter.resolve(method).views")
        return list(self.resolve(method).views)

    @in_turn
    def prompt(self, classes: Names, *, caption: str | None = None, background: Names = ()) -> Prompt:
        """Align classes with the tokens of this model's text encoder, see :func:`goca.text.prompt.build_prompt`."""
        backbone = self.model.backbone
        return build_prompt(
            classes,
            backbone.token_spans,
            caption=caption,
            background=background,
            vocabulary=self.model.spec.vocabulary,
            max_length=backbone.max_tokens,
        )

    def encode(
        self, images: Sequence[ImageSource], *, mirrored: bool = False, as_published: bool = False
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Latents of images, each resized to the model's square (with ``keep_aspect``: all of one shape, to that).

        Args:
            mirrored: of the horizontally flipped images, which differ from the flipped latents.
            as_published: resize as the published experiments do, see :func:`goca.images.fit_as_published`.
        """
        side, multiple = self.model.spec.image_size, self.model.backbone.size_multiple
        pictures = [image if as_published and isinstance(image, Image) else read_image(image) for image in images]
        if mirrored:
            pictures = [ImageOps.mirror(picture) for picture in pictures]
        if as_published and not self.keep_aspect:
            tensors = [fit_as_published(picture, side) for picture in pictures]
        else:
            tensors = [fit_to_model(picture, side, multiple, self.keep_aspect) for picture in pictures]
        return self.model.backbone.encode_image(torch.stack(tensors))

    @in_turn
    def encode_prompts(self, texts: str | Sequence[str]) -> Conditioning:
        """Encode one text per image; texts seen lately are not encoded again, so that the text encoder can rest, unless
        its weights, adapters, words, number type or device have changed."""
        backbone, pipeline = self.model.backbone, self.model.pipeline
        fingerprint = text_fingerprint(pipeline)
        texts = [texts] if isinstance(texts, str) else texts
        key = (tuple(texts), backbone.device, backbone.dtype, fingerprint)
        if fingerprint is None or key not in self._conditionings:
            if len(self._conditionings) >= KEPT_PROMPTS:
                del self._conditionings[next(iter(self._conditionings))]
            with evaluating(*pipeline.components.values()):
                self._conditionings[key] = encode_checked(backbone, texts)
        return self._conditionings[key]

    @in_turn
    def score(
        self,
        latents: Float[Tensor, "batch channels rows columns"],
        prompts: Sequence[Prompt],
        methods: Sequence[Method],
        seed: int = 0,
        mirrored: Float[Tensor, "batch channels rows columns"] | None = None,
    ) -> tuple[list[list[ScoreMaps]], list[float]]:
        """Refined maps of every method for every image, from shared recordings.

        Each view (a timestep, flipped or not) is one forward of the denoiser; a method averages the maps of its views.

        Args:
            latents: of the images, see :meth:`encode`.
            prompts: one per image.
            methods: which all get the same recordings.
            seed: of the noise.
            mirrored: latents of the mirrored images; needed by methods with ``flip``.

        Returns:
            maps[method][image], and per image the mean squared error of the first view's prediction of the clean
            latent, which tells how well the model knows this kind of image (0 in fast mode, which leaves before the
            prediction).
        """
        conditioning = self.encode_prompts([prompt.text for prompt in prompts])
        size = (latents.shape[-2], latents.shape[-1])
        resolved = [self.resolve(method) for method in methods]
        if mirrored is None and any(method.flip for method in methods):
            raise ValueError("the method averages mirrored views; give their latents, encode(images, mirrored=True)")
        collected: list[list[list[ScoreMaps]]] = [[[] for _ in prompts] for _ in methods]
        errors: list[float] = []
        for timestep, flipped in dict.fromkeys(view for each in resolved for view in each.views):
            wanted = [index for index, each in enumerate(resolved) if (timestep, flipped) in each.views]
            aggregators = {index: [self.aggregator(resolved[index], size) for _ in prompts] for index in wanted}
            clean = latents if mirrored is None or not flipped else mirrored
            prediction = self._record(clean, timestep, conditioning, seed, aggregators)
            errors = errors or _errors(prediction, clean)
            for index in wanted:
                for image, (aggregator, prompt) in enumerate(zip(aggregators[index], prompts, strict=True)):
                    maps = self.class_maps(aggregator.finish(), prompt, resolved[index])
                    collected[index][image].append(flip(maps) if flipped else maps)
        return [[mean_maps(views) for views in images] for images in collected], errors

    @in_turn
    def prediction_errors(
        self,
        latents: Float[Tensor, "batch channels rows columns"],
        texts: Sequence[str],
        timestep: Timestep,
        seed: int = 0,
    ) -> list[float]:
        """Mean squared error of the clean latents that the model predicts at a noise level, each from its text.

        Args:
            seed: of the noise, the same for all.
        """
        backbone = self.model.backbone
        generators = [torch.Generator().manual_seed(check_seed(seed)) for _ in latents]
        noisy = backbone.add_noise(latents, timestep, generators)
        predicted = backbone.record(noisy, timestep, self.encode_prompts(texts), lambda image, record: None, ())
        assert predicted is not None
        return _errors(backbone.noise_level(timestep, latents).clean(noisy, predicted), latents)

    def aggregations(
        self, images: Sequence[ImageSource], prompt: Prompt, method: ResolvedMethod, seed: int = 0
    ) -> Iterator[tuple[bool, list[Aggregation], list[float]]]:
        """For each view of images of one shape: whether it is mirrored, what was recorded of each image, and the errors
        of the predictions, see :meth:`score`."""
        conditioning = self.encode_prompts([prompt.text] * len(images))
        latents = {mirrored: self.encode(images, mirrored=mirrored) for mirrored in {view[1] for view in method.views}}
        for timestep, flipped in method.views:
            clean = latents[flipped]
            aggregators = [self.aggregator(method, (clean.shape[-2], clean.shape[-1])) for _ in images]
            prediction = self._record(clean, timestep, conditioning, seed, {0: aggregators})
            yield flipped, [each.finish() for each in aggregators], _errors(prediction, clean)

    def output_grid(self, size: Grid) -> Grid:
        """Rows and columns of the maps of latents of this size: as many as the model's spec says, in their shape."""
        side, aspect = self.model.spec.output_grid, math.sqrt(size[0] / size[1])
        return max(3, round(side * aspect)), max(3, round(side / aspect))

    def aggregator(self, method: ResolvedMethod, size: Grid, *, fast: bool | None = None) -> MapAggregator:
        """What turns the records of an image, with latents of this size, into maps."""
        return MapAggregator(
            method.heads,
            method.layers,
            self.output_grid(size),
            method.cross_layers,
            method.reference_layer,
            method.refine_layers,
            method.refine_order,
            self.fast if fast is None else fast,
            self.model.backbone.grid(method.reference_layer, *size),
        )

    @neutral()
    def class_maps(self, aggregation: Aggregation, prompt: Prompt, method: ResolvedMethod) -> ScoreMaps:
        """Token maps to refined class maps in [0, 1]."""
        scores = rescale(aggregation.token_maps, prompt, method.method.rescale)
        return refine(scores, aggregation.refiner, method.refine_order)

    def _record(
        self,
        latents: Tensor,
        timestep: Timestep,
        conditioning: Conditioning,
        seed: int,
        aggregators: Mapping[int, Sequence[MapAggregator] | Sequence[LayerObserver]],
    ) -> Tensor | None:
        """One forward; every aggregator gets the records of its image as they come.

        Returns the clean latents as the model predicts them; ``None`` in fast mode."""
        backbone = self.model.backbone

        def add_record(image: int, record: LayerRecord) -> None:
            for images in aggregators.values():
                images[image].add(record)

        generators = [torch.Generator().manual_seed(check_seed(seed)) for _ in latents]
        noisy = backbone.add_noise(latents, timestep, generators)
        needed = {layer for images in aggregators.values() for layer in images[0].layers}
        predicted = backbone.record(noisy, timestep, conditioning, add_record, needed, stop_early=self.fast)
        return None if predicted is None else backbone.noise_level(timestep, latents).clean(noisy, predicted)

    @neutral()
    def segmentation(
        self,
        image: Image,
        maps: ScoreMaps,
        method: ResolvedMethod | None = None,
        error: float = 0.0,
        has_background: bool = False,
        upsample: str = BILINEAR,
    ) -> Segmentation:
        """Labels, scores and notes of an image from its refined maps.

        Args:
            method: that made them; by default the segmenter's own.
            error: of the predicted clean latent, see :meth:`score`.
            has_background: whether the prompt names background phrases.
            upsample: see :meth:`__call__`.
        """
        resolved, spec = method or self._method, self.model.spec
        chosen = resolved.method
        maps = post_process(maps, image, chosen.pamr, chosen.post)
        with_background = has_background or chosen.threshold is not None
        decided = chosen.background if with_background else None, chosen.threshold or 0.0
        labels = look_up(UPSAMPLING, upsample, "upsampling")(maps, image, *decided)
        stacked = torch.cat([maps.maps, maps.background[None]]) if with_background else maps.maps
        names = (*maps.classes, BACKGROUND) if with_background else maps.classes
        notes = [*resolved.notes, *([UNFAMILIAR.format(name=spec.name)] if self._unfamiliar(error) else [])]
        if len(names) == 1:
            notes.append(ONE_CLASS.format(name=names[0]))
        return Segmentation(image, names, np.asarray(labels), stacked.float().cpu().numpy(), tuple(notes))


def _errors(prediction: Tensor | None, clean: Float[Tensor, "batch channels rows columns"]) -> list[float]:
    """Mean squared error of each image's predicted clean latent; 0 where the denoiser was left early."""
    if prediction is None:
        return [0.0] * len(clean)
    return (prediction - clean).float().square().mean(dim=(1, 2, 3)).tolist()
