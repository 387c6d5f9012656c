"""What every model family shares: encoding images, noising latents, and recording attention layer by layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, floor
from typing import Any, ClassVar, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from goca.backbones.hooks import AttentionCall, Recorder
from goca.backbones.noise import NoiseLevel, noise_level
from goca.text.spans import TokenSpans, read_offsets
from goca.types import CrossRecord, Grid, LayerRecord, OutputProjection

OnRecord = Callable[[int, LayerRecord], object]
PLAIN_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
REFERENCE = "reference"
OUTPUT = "output"


@dataclass(frozen=True)
class Conditioning:
    """Encoded texts of a batch.

    ``mask`` is 1 on tokens the denoiser may look at, ``None`` where it sees them all; ``extra`` holds what else the
    family's denoiser is told, by its argument's name, the batch on the first axis.
    """

    embeddings: Float[Tensor, "batch tokens width"]
    mask: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What a segmentation needs to know of an architecture, see :class:`goca.models.ModelSpec`."""

    reference_layer: str
    refine_layers: tuple[str, ...]
    refine_order: int
    timestep: int = 100
    head_rule: str = "dot-product w/o clamp"
    layer_rule: str = "dot-product similarity"


class _SeenEnough(Exception):
    """Leaves the denoiser from inside."""


class Backbone(ABC):
    """A diffusion pipeline, one attention layer at a time.

    A family says how it encodes text and calls its denoiser, which layers there are and which attention modules belong
    to each, and how their calls become a :class:`LayerRecord`. Nothing of the pipeline is changed; its components may
    be offloaded, compiled or quantised. A new family is a subclass of :class:`CrossAttentionBackbone` or
    :class:`goca.backbones.joint.JointAttentionBackbone`.

    Args:
        pipeline: a loaded diffusers pipeline of the family.
        reference_layer: layer whose record carries the reference features F.

    Attributes:
        pipelines: names of the diffusers pipeline classes that the family is saved as.
        denoiser_name: the pipeline's attribute that holds the denoiser.
        unused_parts: what ``from_pretrained`` of these pipelines is told so that it leaves out what is not needed.
        self_maps: whether its self-attention gives maps, by which layers are weighed and class maps refined.
    """

    pipelines: ClassVar[tuple[str, ...]]
    denoiser_name: ClassVar[str] = "transformer"
    unused_parts: ClassVar[Mapping[str, Any]] = {}
    self_maps: ClassVar[bool] = True

    def __init__(self, pipeline: Any, reference_layer: str) -> None:
        self.pipeline = pipeline
        self.reference_layer = reference_layer
        self._levels: dict[tuple[int, float | None], NoiseLevel] = {}
        self.layers: tuple[str, ...] = self.find_layers(self.denoiser)
        if reference_layer not in self.layers:
            raise ValueError(f"Unknown reference layer {reference_layer!r}; choose one of {', '.join(self.layers)}.")

    @staticmethod
    @abstractmethod
    def find_layers(denoiser: Any) -> tuple[str, ...]:
        """Names of all layers in which image pixels look at text tokens, in forward order."""

    @staticmethod
    @abstractmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """Settings for a model nobody tuned, from the names of its layers alone; gives the published models their
        published settings."""

    @abstractmethod
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        """Encode one text per image, padded to :attr:`max_tokens`, as the pipeline itself does."""

    @abstractmethod
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: int, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        """One forward of the denoiser: its prediction, of the kind that its scheduler expects.

        Families whose denoiser takes no texts of different lengths run the images in several groups, in order.
        """

    @abstractmethod
    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        """The attention modules of a layer, by a name of their part in it."""

    @abstractmethod
    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> LayerRecord:
        """One image's record, without reference features, from the calls of the layer's modules (by part)."""

    @abstractmethod
    def reference_module(self) -> nn.Module:
        """The module whose output is, or holds, the reference features."""

    def output_module(self, layer: str) -> nn.Module | None:
        """The module whose output, less its bias, is the sum y of what the heads of a layer's cross-attention give, if
        that stands alone anywhere."""
        return None

    def reference_features(
        self, output: Any, grid: Grid, calls: Mapping[str, AttentionCall], image: int
    ) -> Float[Tensor, "pixels channels"]:
        """One image's features in that module's output, beside the calls of its layer; its rows by default."""
        return output[image]

    def watch_reference(self, receive: Callable[[Any], object]) -> AbstractContextManager[None]:
        """Hand what holds the features to ``receive``: what :meth:`reference_module` returns."""
        return watch_output(self.reference_module(), receive)

    def grid(self, layer: str, height: int, width: int) -> Grid:
        """Rows and columns of pixels that a layer attends over, for latents of ``height`` x ``width``."""
        patch = self.denoiser.config.patch_size
        return height // patch, width // patch

    @property
    def denoiser(self) -> Any:
        """The network that is recorded, without a ``torch.compile`` wrapper."""
        module = getattr(self.pipeline, self.denoiser_name)
        return getattr(module, "_orig_mod", module)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer whose positions the recorded tokens have."""
        return self.pipeline.tokenizer

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, special ones included."""
        return self.tokenizer.model_max_length

    def token_spans(self, text: str) -> list[TokenSpans]:
        """Where the words of ``text`` are among the recorded tokens; several ranges where several encoders' tokens
        stand side by side."""
        return [read_offsets(self.tokenizer, text, self.max_tokens)]

    @property
    def device(self) -> torch.device:
        """Where inputs go; with offloading that is the accelerator, not where the weights rest."""
        return self.pipeline._execution_device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of latents and text features."""
        return self.denoiser.dtype

    @property
    def vae_factor(self) -> int:
        """Image pixels per latent pixel."""
        return 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.vae_factor * self.denoiser.config.patch_size

    @property
    def image_size(self) -> int:
        """Side of the square image, in pixels, that the model was trained on."""
        return self.denoiser.config.sample_size * self.vae_factor

    @torch.no_grad()
    def encode_image(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Scaled mode of the VAE's posterior for images in [-1, 1].

        Raises:
            ValueError: a side is not a multiple of :attr:`size_multiple`.
        """
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"The image is {height} x {width} pixels; "
                f"resize it so that both sides are multiples of {self.size_multiple}."
            )
        return self.encode_latents(images.to(self.device, self.pipeline.vae.dtype)).to(self.dtype)

    def encode_latents(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """(mode - shift) * scale, as the VAE's configuration has them."""
        vae = self.pipeline.vae
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (vae.encode(images).latent_dist.mode() - shift) * vae.config.scaling_factor

    def mu(self, latents: Float[Tensor, "batch channels height width"]) -> float | None:
        """``mu`` of schedules that depend on the image's size; ``None`` for the others."""
        return None

    def noise_level(self, timestep: int, latents: Float[Tensor, "batch channels height width"]) -> NoiseLevel:
        """How latents of this size are noised at ``timestep`` of 1000."""
        key = (timestep, self.mu(latents))
        if key not in self._levels:
            self._levels[key] = noise_level(self.pipeline.scheduler, *key)
        return self._levels[key]

    def add_noise(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: int,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "batch channels height width"]:
        """Noise latents with the schedule the model was trained on, see :class:`goca.backbones.noise.NoiseLevel`.

        Each image draws from its own generator, so that its noise does not depend on the rest of the batch.

        Raises:
            ValueError: not one generator per image, or a timestep outside the schedule.
        """
        if len(generators) != len(latents):
            raise ValueError(f"Give one generator per image: got {len(generators)} for {len(latents)} images.")
        level = self.noise_level(timestep, latents)
        noise = torch.stack(
            [torch.randn(latents.shape[1:], generator=each, device=each.device).to(latents) for each in generators]
        )
        return level.alpha * latents + level.sigma * noise

    @torch.no_grad()
    def record(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: int,
        conditioning: Conditioning,
        on_record: OnRecord,
        layers: Collection[str] | None = None,
        stop_early: bool = False,
    ) -> Float[Tensor, "batch channels height width"] | None:
        """Denoise once and hand the attention of each layer to ``on_record(image_index, record)`` as soon as it has
        run.

        Args:
            layers: layers to record, all by default; must contain those the receiver waits for.
            stop_early: leave the denoiser as soon as the last of them has been recorded.

        Returns:
            the denoiser's prediction, the same as :meth:`denoise` gives; ``None`` where it was left early.

        Raises:
            ValueError: an unknown layer. RuntimeError: a layer whose attention was not seen.
        """
        last = next((layer for layer in reversed(self.layers) if layers is None or layer in layers), None)

        def hand_on(image: int, record: LayerRecord) -> None:
            on_record(image, record)
            if stop_early and record.name == last and image == len(latents) - 1:
                raise _SeenEnough

        height, width = latents.shape[-2:]
        with self.recording((height, width), hand_on, layers):
            try:
                return self.denoise(latents, timestep, conditioning)
            except _SeenEnough:
                return None

    @contextmanager
    def recording(
        self,
        size: Grid,
        on_record: OnRecord,
        layers: Collection[str] | None = None,
        images: Collection[int] | None = None,
    ) -> Iterator[None]:
        """Hand the attention of each layer to ``on_record(image_index, record)`` while someone else calls the denoiser
        inside the context, once per image.

        Nothing is kept here: a record lives as long as its receiver keeps it. Layers come in forward order.

        Args:
            size: rows and columns of the latents.
            layers: layers to record, all by default; must contain those the receiver waits for.
            images: indices of the images to record, all by default.

        Raises:
            ValueError: an unknown layer. RuntimeError: on leaving, a layer whose attention was not seen.
        """
        wanted = self.layers if layers is None else tuple(layer for layer in self.layers if layer in set(layers))
        unknown = set(layers or ()) - set(self.layers)
        if unknown:
            raise ValueError(f"Unknown layers {', '.join(sorted(unknown))}; choose from {', '.join(self.layers)}.")
        parts = {layer: self.attention_modules(layer) for layer in wanted}
        modules = {f"{layer}#{part}": module for layer, named in parts.items() for part, module in named.items()}
        expected = {layer: set(named) for layer, named in parts.items()}
        if self.reference_layer in expected:
            expected[self.reference_layer].add(REFERENCE)
        projections = {layer: module for layer in wanted if exact_output(module := self.output_module(layer))}
        for layer in projections:
            expected[layer].add(OUTPUT)
        collected: dict[str, dict[str, Any]] = {}
        recorded = dict.fromkeys(wanted, 0)

        def arrive(layer: str, part: str, what: object) -> None:
            found = collected.setdefault(layer, {})
            found[part] = what
            if found.keys() != expected[layer]:
                return
            calls = collected.pop(layer)
            grid = self.grid(layer, *size)
            features, output = calls.pop(REFERENCE, None), calls.pop(OUTPUT, None)
            first = recorded[layer]
            recorded[layer] += len(next(iter(calls.values())).query)
            for row in range(recorded[layer] - first):
                if images is not None and first + row not in images:
                    continue
                reference = None if features is None else self.reference_features(features, grid, calls, row)
                record = replace(self.read(layer, grid, calls, row), reference=reference)
                if output is not None and isinstance(record, CrossRecord):
                    bias = projections[layer].bias
                    record = replace(record, output=output[row] if bias is None else output[row] - bias)
                on_record(first + row, record)

        def on_call(call: AttentionCall) -> None:
            layer, _, part = call.name.partition("#")
            arrive(layer, part, call)

        with ExitStack() as stack:
            stack.enter_context(Recorder(modules, on_call))
            if self.reference_layer in expected:
                note = partial(arrive, self.reference_layer, REFERENCE)
                stack.enter_context(self.watch_reference(note))
            for layer, module in projections.items():
                stack.enter_context(watch_output(module, partial(arrive, layer, OUTPUT)))
            yield


class CrossAttentionBackbone(Backbone):
    """Families in which each transformer block has self-attention ``attn1`` and cross-attention ``attn2``; the
    reference features are the query that ``attn2.to_q`` gives in the reference layer."""

    def attention_modules(self, layer: str) -> dict[str, nn.Module]:
        block = self.denoiser.get_submodule(layer)
        return {"self": block.attn1, "cross": block.attn2} if self.self_maps else {"cross": block.attn2}

    def reference_module(self) -> nn.Module:
        return self.denoiser.get_submodule(self.reference_layer).attn2.to_q

    def output_module(self, layer: str) -> nn.Module:
        cross: Any = self.attention_modules(layer)["cross"]
        return cross.to_out[0]

    def read(self, layer: str, grid: Grid, calls: Mapping[str, AttentionCall], image: int) -> LayerRecord:
        cross, own = calls["cross"], calls.get("self")
        return CrossRecord(
            name=layer,
            grid=grid,
            cross_query=cross.query[image],
            cross_key=cross.key[image],
            cross_value=cross.value[image],
            projection=output_projection(self.attention_modules(layer)["cross"]),
            self_query=own.query[image] if own else None,
            self_key=own.key[image] if own else None,
            cross_mask=None if cross.mask is None else additive_mask(cross.mask, image),
            cross_scale=cross.scale,
            self_scale=own.scale if own else None,
        )


def derive_by_depth(layers: tuple[str, ...]) -> Settings:
    """For transformers with cross-attention; gives PixArt's 28 blocks the published settings.

    Of n blocks the reference is block (n - 1) // 2; blocks from 0.35 n to 0.61 n refine (at least the reference); order
    5.
    """
    count = len(layers)
    reference = layers[(count - 1) // 2]
    refine = tuple(layers[ceil(0.35 * count) : floor(0.61 * count) + 1]) or (reference,)
    return Settings(reference, refine, refine_order=5)


@contextmanager
def watch_output(module: nn.Module, receive: Callable[[Any], object], given: bool = False) -> Iterator[None]:
    """Hand what ``module`` returns, or its first input where ``given``, to ``receive`` inside the context."""

    def hand_over(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        receive(inputs[0] if given else output)

    handle = module.register_forward_hook(hand_over)
    try:
        yield
    finally:
        handle.remove()


def output_projection(attention: Any) -> OutputProjection:
    """The projection after the heads: its matrix where it is a plain linear layer at hand, else the module itself.

    A layer with LoRA on top is another class, a quantised one has another number type or kind of tensor, an offloaded
    one has no data, or not its own.
    """
    module = attention.to_out[0]
    return OutputProjection(module.weight.detach()) if plain_linear(module) else OutputProjection(None, module)


def plain_linear(module: Any) -> TypeGuard[nn.Linear]:
    """Whether a module's matrix is there to be read. Under diffusers' group offloading anything may be in its place."""
    plain = type(module) is nn.Linear and type(module.weight) is nn.Parameter and not hasattr(module, "_diffusers_hook")
    return plain and not module.weight.is_meta and module.weight.dtype in PLAIN_DTYPES


def exact_output(module: Any) -> TypeGuard[nn.Linear]:
    """Whether a module's output less its bias is as exact as the maths that would take its place."""
    return plain_linear(module) and module.weight.dtype == torch.float32


def additive_mask(
    mask: Float[Tensor, "batch heads queries keys"] | Bool[Tensor, "batch heads queries keys"],
    image: int,
    query: int = 0,
) -> Float[Tensor, " keys"]:
    """The mask over keys that all heads and pixels of one image share, as a number added to the scores.

    Args:
        query: a row of the mask that belongs to a pixel, where it has one row per query.
    """
    row = mask[image if mask.shape[0] > 1 else 0, 0, query if mask.shape[2] > 1 else 0]
    if row.dtype == torch.bool:
        return torch.zeros(row.shape, device=row.device).masked_fill(~row, -10000.0)
    return row
