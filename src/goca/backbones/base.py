"""The contract of a model family: encoding images and texts, noising, denoising, and recording attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goca.ambient import neutral
from goca.backbones import latents as autoencoder
from goca.backbones.checks import refuse_caches, whole_forward
from goca.backbones.hooks import AttentionCall, watch_output
from goca.backbones.learned_words import learned_words, read_expanded_offsets, respell
from goca.backbones.noise import NoiseLevel, Timestep, noise_level
from goca.backbones.projection import output_projection
from goca.backbones.recording import LayerCollector, LeaveDenoiser, OnRecord, leave_after
from goca.backbones.settings import GuidanceLayout, Settings, find_pipeline
from goca.backbones.turns import evaluating, models_turn, separate_calls
from goca.lookup import look_up
from goca.text.spans import TokenSpans
from goca.types import Grid, LayerRecord


@dataclass(frozen=True)
class Conditioning:
    """Encoded texts of a batch.

    ``mask`` is 1 on tokens that the denoiser attends to, ``None`` for all; ``extra`` holds further inputs of the
    family's denoiser, by the argument's name, the batch on the first axis.
    """

    embeddings: Float[Tensor, "batch tokens width"]
    mask: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


class Backbone(ABC):
    """A diffusion pipeline, one attention layer at a time.

    A family says how it encodes text and calls its denoiser, which layers there are and which attention modules belong
    to each, and how their calls become a :class:`LayerRecord`. Nothing of the pipeline is changed; its components may
    be offloaded, compiled or quantised. A new family is a subclass of
    :class:`goca.backbones.cross.CrossAttentionBackbone` or :class:`goca.backbones.joint.JointAttentionBackbone`.

    Args:
        pipeline: a loaded diffusers pipeline of the family.
        reference_layer: layer whose record carries the reference features F.

    Attributes:
        pipelines: names of the diffusers pipeline classes that the family is saved as.
        guidance: how each of them runs classifier-free guidance; one that is left out can segment, but not draw with
            guidance by regions.
        denoiser_name: the pipeline's attribute that holds the denoiser.
        unused_parts: arguments of ``from_pretrained`` that leave out components which goca does not use.
        optional_parts: tokenizers and text encoders that a pipeline may lack.
        self_maps: whether its self-attention gives maps, by which layers are weighed and class maps refined.
    """

    pipelines: ClassVar[tuple[str, ...]]
    guidance: ClassVar[Mapping[str, GuidanceLayout]] = {}
    denoiser_name: ClassVar[str] = "transformer"
    unused_parts: ClassVar[Mapping[str, Any]] = {}
    optional_parts: ClassVar[tuple[str, ...]] = ()
    self_maps: ClassVar[bool] = True

    def __init__(self, pipeline: Any, reference_layer: str) -> None:
        self.pipeline = pipeline
        self.reference_layer = reference_layer
        self._levels: dict[tuple[Timestep, float | None, str], NoiseLevel] = {}
        self._turns = 0
        self._found: dict[str, Any] = {}
        self.layers: tuple[str, ...] = self.find_layers(self.denoiser)
        look_up(self.layers, reference_layer, "reference layer")

    @staticmethod
    @abstractmethod
    def find_layers(denoiser: Any) -> tuple[str, ...]:
        """Names of all layers in which image pixels look at text tokens, in forward order."""

    @staticmethod
    @abstractmethod
    def derive_settings(layers: tuple[str, ...]) -> Settings:
        """Settings from the names of the layers alone, for models without published ones; published models get their
        published settings."""

    @abstractmethod
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        """Encode one text per image, padded to :attr:`max_tokens`, as the pipeline itself does."""

    @abstractmethod
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: Timestep, conditioning: Conditioning
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

    def weighs_heads(self, layer: str) -> bool:
        """Whether a layer has the output projection that head rules read; without it they average."""
        modules = self.attention_modules(layer)
        return any(output_projection(module) is not None for part, module in modules.items() if part != "self")

    def count_heads(self, layer: str) -> int:
        """How many heads look at the text in a layer."""
        modules = self.attention_modules(layer)
        return next(int(module.heads) for part, module in modules.items() if part != "self")  # type: ignore[arg-type]

    def reference_features(
        self, output: Any, grid: Grid, calls: Mapping[str, AttentionCall], image: int
    ) -> Float[Tensor, "pixels channels"]:
        """One image's features in that module's output, beside the calls of its layer; its rows by default."""
        return output[image]

    def watch_reference(self, receive: Callable[[Any], object]) -> AbstractContextManager[None]:
        """Hand what holds the features to ``receive``: what :meth:`reference_module` returns."""
        return watch_output(self.reference_module(), receive)

    def steady_modules(self) -> dict[str, nn.Module]:
        """Modules that every forward of the denoiser runs, by name, in that order."""
        modules = ((layer, self.attention_modules(layer)) for layer in self.layers)
        return {f"{layer}#{part}": module for layer, parts in modules for part, module in parts.items()}

    @property
    def patch_size(self) -> int:
        """Latent pixels per token of the denoiser, each way."""
        return self.denoiser.config.patch_size

    def patch_grid(self, height: int, width: int) -> Grid:
        """Rows and columns of tokens that the denoiser makes of latents of ``height`` x ``width``."""
        return height // self.patch_size, width // self.patch_size

    def grid(self, layer: str, height: int, width: int) -> Grid:
        """Rows and columns of pixels that a layer attends over, for latents of ``height`` x ``width``; those of the
        patches by default."""
        return self.patch_grid(height, width)

    @property
    def denoiser(self) -> Any:
        """The network that is recorded, without a ``torch.compile`` wrapper."""
        module = getattr(self.pipeline, self.denoiser_name)
        return getattr(module, "_orig_mod", module)

    @property
    def pipeline_class(self) -> str:
        """Which of :attr:`pipelines` the pipeline belongs to, see :func:`goca.backbones.settings.find_pipeline`."""
        return find_pipeline(self.pipelines, type(self.pipeline)) or type(self.pipeline).__name__

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
        return [read_expanded_offsets(self.pipeline, self.tokenizer, self.respell([text])[0], self.max_tokens)]

    def respell(self, texts: Sequence[str]) -> list[str]:
        """Texts as the encoder must get them: prompts are in small letters, but words that were learned may not be."""
        words = learned_words(self.pipeline)
        return [respell(text, words) for text in texts]

    @property
    def device(self) -> torch.device:
        """Where inputs go; with offloading that is the accelerator, not where idle weights are kept."""
        return self._once_a_turn("device", lambda: self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of latents and text features."""
        return self._once_a_turn("dtype", lambda: self.denoiser.dtype)

    def _once_a_turn(self, name: str, find: Callable[[], Any]) -> Any:
        """What diffusers walks through all modules to find, and what does not change within a :meth:`turn`."""
        if not self._turns:
            return find()
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]

    @property
    def vae_factor(self) -> int:
        """Image pixels per latent pixel."""
        return autoencoder.spatial_factor(self.pipeline.vae)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that the denoiser takes."""
        return self.denoiser.config.in_channels

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.vae_factor * self.patch_size

    @property
    def image_size(self) -> int:
        """Side of the square image, in pixels, that the model was trained on."""
        return self.denoiser.config.sample_size * self.vae_factor

    def encode_image(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Scaled mode of the VAE's posterior for images in [-1, 1].

        Raises:
            ValueError: a side is not a multiple of :attr:`size_multiple`, or the VAE's latents are not the denoiser's.
        """
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"The image is {height} x {width} pixels; "
                f"resize it so that both sides are multiples of {self.size_multiple}."
            )
        vae = self.pipeline.vae
        with self.turn(), evaluating(vae), autoencoder.upcast(vae):
            latents = self.encode_latents(images.to(self.device, vae.dtype)).to(self.dtype)
        autoencoder.check(latents, self.latent_channels, type(vae).__name__)
        return latents

    def encode_latents(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """See :func:`goca.backbones.latents.encode` and :func:`goca.backbones.latents.scale`."""
        return autoencoder.scale(self.pipeline.vae, autoencoder.encode(self.pipeline.vae, images))

    def mu(self, latents: Float[Tensor, "batch channels height width"]) -> float | None:
        """``mu`` of schedules that depend on the image's size; ``None`` for the others."""
        return None

    def noise_level(self, timestep: Timestep, latents: Float[Tensor, "batch channels height width"]) -> NoiseLevel:
        """How latents of this size are noised at ``timestep`` of 1000."""
        scheduler, mu = self.pipeline.scheduler, self.mu(latents)
        key = (timestep, mu, scheduler.to_json_string())
        if key not in self._levels:
            self._levels[key] = noise_level(scheduler, timestep, mu)
        return self._levels[key]

    @neutral()
    def add_noise(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: Timestep,
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
            [
                torch.randn(latents.shape[1:], generator=each, device=each.device, dtype=torch.float32).to(latents)
                for each in generators
            ]
        )
        return level.alpha * latents + level.sigma * noise

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The pipeline's models for this thread alone, and free of what torch is set to around."""
        with models_turn(self.pipeline), neutral():
            self._turns += 1
            try:
                yield
            finally:
                self._turns -= 1
                if not self._turns:
                    self._found.clear()

    def record(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: Timestep,
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
            ValueError: an unknown layer, a denoiser that reuses results of earlier calls or merges tokens.
            RuntimeError: a layer whose attention was not seen.
        """
        if stop_early:
            last = next((layer for layer in reversed(self.layers) if layers is None or layer in layers), None)
            on_record = leave_after(last, len(latents), on_record)
        height, width = latents.shape[-2:]
        with (
            self.turn(),
            evaluating(self.denoiser),
            separate_calls(),
            self.recording((height, width), on_record, layers),
            whole_forward(self.steady_modules(), stop_early),
            suppress(LeaveDenoiser),
        ):
            return self.denoise(latents, timestep, conditioning)
        return None

    def recording(
        self,
        size: Grid,
        on_record: OnRecord,
        layers: Collection[str] | None = None,
        images: Collection[int] | None = None,
    ) -> AbstractContextManager[None]:
        """Hand the attention of each layer to ``on_record(image_index, record)`` while someone else calls the denoiser
        inside the context and in the same thread, once per image.

        Nothing is kept here: a record lives as long as its receiver keeps it. Layers come in forward order.

        Args:
            size: rows and columns of the latents.
            layers: layers to record, all by default; must contain those the receiver waits for.
            images: indices of the images to record, all by default.

        Raises:
            ValueError: an unknown layer, or a denoiser that reuses results of earlier calls.
            RuntimeError: on leaving, a layer whose attention was not seen.
        """
        for layer in layers or ():
            look_up(self.layers, layer, "layer")
        wanted = self.layers if layers is None else tuple(layer for layer in self.layers if layer in set(layers))
        refuse_caches(self.denoiser)
        return LayerCollector(self, size, wanted, on_record, images).listen()
