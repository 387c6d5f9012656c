"""What every model family shares: encoding images, noising latents, and recording attention block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from jaxtyping import Bool, Float
from torch import Tensor, nn

from goca.backbones.recorder import AttentionCall, Recorder
from goca.types import Grid, LayerRecord, OutputProjection

OnRecord = Callable[[int, LayerRecord], object]
PLAIN_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Conditioning:
    """Encoded texts of a batch; ``mask`` is 1 on tokens the denoiser may look at, ``None`` where it sees them all."""

    embeddings: Float[Tensor, "batch tokens width"]
    mask: Tensor | None = None


class Backbone(ABC):
    """A diffusion pipeline whose text meets the image in cross-attention, one transformer block at a time.

    Subclasses say how the family encodes text and calls its denoiser, and which blocks there are. Nothing of the
    pipeline is changed; its components may be offloaded, compiled or quantised.

    Args:
        pipeline: a loaded diffusers pipeline of the family.
        reference_layer: block whose cross-attention query serves as features F.
    """

    def __init__(self, pipeline: Any, reference_layer: str) -> None:
        self.pipeline = pipeline
        self.reference_layer = reference_layer
        self.layers: tuple[str, ...] = self.find_layers(self.denoiser)
        if reference_layer not in self.layers:
            raise ValueError(f"Unknown reference layer {reference_layer!r}; choose one of {', '.join(self.layers)}.")
        self._noising = DDPMScheduler.from_config(pipeline.scheduler.config)

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The network that is recorded, without a ``torch.compile`` wrapper."""

    @staticmethod
    @abstractmethod
    def find_layers(denoiser: Any) -> tuple[str, ...]:
        """Names of all transformer blocks with self- and cross-attention, in forward order."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Longest text in tokens, special ones included."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""

    @abstractmethod
    def encode_prompt(self, texts: Sequence[str]) -> Conditioning:
        """Encode one text per image, padded to :attr:`max_tokens`, as the pipeline itself does."""

    @abstractmethod
    def denoise(
        self, latents: Float[Tensor, "batch channels height width"], timestep: int, conditioning: Conditioning
    ) -> Float[Tensor, "batch channels height width"]:
        """One forward of the denoiser: its prediction, of whatever type the model was trained for."""

    @abstractmethod
    def watch_grids(self, grids: dict[str, Grid], layers: Collection[str]) -> list[torch.utils.hooks.RemovableHandle]:
        """Hook the denoiser so that ``grids[layer]`` is its (h, w) by the time a layer's attention runs."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer whose positions the recorded tokens have."""
        return self.pipeline.tokenizer

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

    @torch.no_grad()
    def encode_image(
        self, images: Float[Tensor, "batch 3 image_height image_width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Scaled mode of the VAE's posterior: (mode - shift) * scale, for images in [-1, 1].

        Raises:
            ValueError: a side is not a multiple of :attr:`size_multiple`.
        """
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"The image is {height} x {width} pixels; "
                f"resize it so that both sides are multiples of {self.size_multiple}."
            )
        vae = self.pipeline.vae
        latents = vae.encode(images.to(self.device, vae.dtype)).latent_dist.mode()
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return ((latents - shift) * vae.config.scaling_factor).to(self.dtype)

    def add_noise(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: int,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "batch channels height width"]:
        """sqrt(abar_t) x + sqrt(1 - abar_t) noise with the schedule the model was trained on.

        Each image draws from its own generator, so that its noise does not depend on the rest of the batch. The
        formula is taken from a DDPM scheduler of the same configuration: some samplers (DPM-Solver) noise wrongly
        until their steps are set.

        Raises:
            ValueError: not one generator per image, or a timestep outside the schedule.
        """
        if len(generators) != len(latents):
            raise ValueError(f"Give one generator per image: got {len(generators)} for {len(latents)} images.")
        steps = self._noising.config.num_train_timesteps
        if not 0 <= timestep < steps:
            raise ValueError(f"The timestep must be from 0 to {steps - 1}, got {timestep}.")
        noise = torch.stack(
            [torch.randn(latents.shape[1:], generator=each, device=each.device).to(latents) for each in generators]
        )
        return self._noising.add_noise(latents, noise, torch.full((len(latents),), timestep, device=latents.device))

    @torch.no_grad()
    def record(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: int,
        conditioning: Conditioning,
        on_record: OnRecord,
        layers: Collection[str] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Denoise once and hand the attention of each block to ``on_record(image_index, record)`` as soon as it has
        run.

        Nothing is kept here: a record lives as long as its receiver keeps it. Blocks come in forward order.

        Args:
            layers: blocks to record, all by default; must contain those the receiver waits for.

        Returns:
            the denoiser's prediction, the same as :meth:`denoise` gives.

        Raises:
            ValueError: an unknown layer. RuntimeError: a layer whose attention was not seen.
        """
        wanted = self.layers if layers is None else tuple(layer for layer in self.layers if layer in set(layers))
        unknown = set(layers or ()) - set(self.layers)
        if unknown:
            raise ValueError(f"Unknown layers {', '.join(sorted(unknown))}; choose from {', '.join(self.layers)}.")
        blocks = {layer: self.denoiser.get_submodule(layer) for layer in wanted}
        modules = {
            f"{layer}.{part}": block.get_submodule(part)
            for layer, block in blocks.items()
            for part in ("attn1", "attn2")
        }
        grids: dict[str, Grid] = {}
        queries: list[Tensor] = []
        pending: dict[str, AttentionCall] = {}

        def on_call(call: AttentionCall) -> None:
            layer, part = call.name.rsplit(".", 1)
            if part == "attn1":
                pending[layer] = call
                return
            reference = queries.pop() if layer == self.reference_layer else None
            projection = output_projection(modules[call.name])
            self_call = pending.pop(layer)
            for image in range(len(call.query)):
                record = join_calls(layer, grids[layer], self_call, call, image, projection, reference)
                on_record(image, record)

        with ExitStack() as stack:
            for handle in self.watch_grids(grids, wanted):
                stack.callback(handle.remove)
            if self.reference_layer in blocks:
                stack.enter_context(keep_output(blocks[self.reference_layer].attn2.to_q, queries))
            stack.enter_context(Recorder(modules, on_call))
            return self.denoise(latents, timestep, conditioning)


@contextmanager
def keep_output(module: nn.Module, outputs: list[Tensor]) -> Iterator[None]:
    """Append what ``module`` returns to ``outputs`` inside the context."""

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def output_projection(attention: Any) -> OutputProjection:
    """The projection after the heads: its matrix where it is a plain linear layer at hand, else the module itself.

    A layer with LoRA on top is another class, a quantised one has another number type, an offloaded one has no data.
    """
    module = attention.to_out[0]
    if type(module) is nn.Linear and not module.weight.is_meta and module.weight.dtype in PLAIN_DTYPES:
        return OutputProjection(module.weight.detach())
    return OutputProjection(None, module)


def join_calls(
    layer: str,
    grid: Grid,
    self_call: AttentionCall,
    cross_call: AttentionCall,
    image: int,
    projection: OutputProjection,
    reference: Float[Tensor, "batch pixels channels"] | None,
) -> LayerRecord:
    """One image's part of a block's two attention calls (views, no copies)."""
    return LayerRecord(
        name=layer,
        grid=grid,
        cross_query=cross_call.query[image],
        cross_key=cross_call.key[image],
        cross_value=cross_call.value[image],
        projection=projection,
        self_query=self_call.query[image],
        self_key=self_call.key[image],
        cross_mask=None if cross_call.mask is None else additive_mask(cross_call.mask, image),
        reference=None if reference is None else reference[image],
        cross_scale=cross_call.scale,
        self_scale=self_call.scale,
    )


def additive_mask(
    mask: Float[Tensor, "batch heads queries tokens"] | Bool[Tensor, "batch heads queries tokens"], image: int
) -> Float[Tensor, " tokens"]:
    """The mask over tokens that all heads and pixels of one image share, as a number added to the scores."""
    row = mask[image if mask.shape[0] > 1 else 0, 0, 0]
    if row.dtype == torch.bool:
        return torch.zeros(row.shape, device=row.device).masked_fill(~row, -10000.0)
    return row
