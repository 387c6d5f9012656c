"""The models this package knows, their settings, and loading any pipeline of a supported family."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goca.datasets.scenes import CLASS_NAMES
from goca.hub import hub_errors, pipeline_class

if TYPE_CHECKING:
    import torch

FAMILIES = {"StableDiffusionPipeline": "unet", "PixArtAlphaPipeline": "dit", "PixArtSigmaPipeline": "dit"}
UNUSED_PARTS = {
    "unet": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    "dit": {},
}
DENOISERS = {"unet": "unet", "dit": "transformer"}
PACKAGED = Path(__file__).parent / "zoo" / "weights"
SCENES_VOCABULARY: tuple[str, ...] = (*CLASS_NAMES, "a", "and")


@dataclass(frozen=True)
class ModelSpec:
    """A model and the settings its segmentation works best with.

    Attributes:
        name: what users type.
        family: key of :data:`goca.backbones.BACKBONES`.
        pipelines: diffusers pipeline classes the model may be saved as.
        source: hub id or local folder.
        image_size: side of the square image, in pixels, the model was trained on.
        timestep: noise level of the one forward, of 1000.
        reference_layer: transformer block whose cross-attention query is the reference.
        refine_layers: blocks whose self-attention refines the maps.
        refine_order: how often it is applied.
        preset: the method's preset that works best with this model, used unless the caller names one.
        head_rule: rule for heads where the method does not name one.
        cross_layers: blocks whose cross-attention is aggregated; ``None`` for all.
        manual_layers: hand-picked blocks of the "manual" baseline; empty where none were published.
        output_grid: side of the maps' grid.
        description: one line for people.
        parameters: size of the denoiser.
        published: whether the settings are those of the published experiments.
        vocabulary: all words an embedded model knows; ``None`` for models of open vocabulary.
        familiar_error: mean squared error of the predicted clean latent above which an image is not of the model's
            world; only for models that predict the clean latent.
    """

    name: str
    family: str
    pipelines: tuple[str, ...]
    source: str
    image_size: int
    timestep: int
    reference_layer: str
    refine_layers: tuple[str, ...]
    refine_order: int
    preset: str = "paper"
    head_rule: str = "dot-product w/o clamp"
    cross_layers: tuple[str, ...] | None = None
    manual_layers: tuple[str, ...] = ()
    output_grid: int = 64
    description: str = ""
    parameters: int | None = None
    published: bool = False
    vocabulary: tuple[str, ...] | None = None
    familiar_error: float | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A specification with the pipeline behind it, ready to record."""

    spec: ModelSpec
    pipeline: Any
    backbone: Any


def _unet_blocks(*owners: str) -> tuple[str, ...]:
    return tuple(f"{owner}.transformer_blocks.0" for owner in owners)


def _dit_blocks(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"transformer_blocks.{index}" for index in range(first, last + 1))


_SD15 = ModelSpec(
    name="sd15",
    family="unet",
    pipelines=("StableDiffusionPipeline",),
    source="stable-diffusion-v1-5/stable-diffusion-v1-5",
    image_size=512,
    timestep=100,
    reference_layer="up_blocks.2.attentions.1.transformer_blocks.0",
    refine_layers=_unet_blocks("up_blocks.3.attentions.0", "up_blocks.3.attentions.1", "down_blocks.0.attentions.1"),
    refine_order=2,
    manual_layers=_unet_blocks(
        *(f"down_blocks.2.attentions.{index}" for index in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.1.attentions.{index}" for index in range(3)),
        *(f"up_blocks.2.attentions.{index}" for index in range(2)),
    ),
    description="Stable Diffusion 1.5, photographs, any words",
    parameters=859_520_964,
    published=True,
)
_PIXART = ModelSpec(
    name="pixart-alpha",
    family="dit",
    pipelines=("PixArtAlphaPipeline",),
    source="PixArt-alpha/PixArt-XL-2-512x512",
    image_size=512,
    timestep=100,
    reference_layer="transformer_blocks.13",
    refine_layers=_dit_blocks(10, 17),
    refine_order=5,
    description="PixArt-alpha 512, photographs, any words",
    parameters=610_856_096,
    published=True,
)
_SCENES_DIT = ModelSpec(
    name="scenes-dit",
    family="dit",
    pipelines=("PixArtAlphaPipeline",),
    source=str(PACKAGED / "scenes-dit"),
    image_size=128,
    timestep=200,
    reference_layer="transformer_blocks.4",
    refine_layers=_dit_blocks(4, 6),
    refine_order=2,
    preset="ensemble",
    output_grid=16,
    description="embedded PixArt-style transformer, drawn scenes only",
    parameters=5_125_072,
    vocabulary=SCENES_VOCABULARY,
    familiar_error=0.080,
)
_SCENES_UNET = ModelSpec(
    name="scenes-unet",
    family="unet",
    pipelines=("StableDiffusionPipeline",),
    source=str(PACKAGED / "scenes-unet"),
    image_size=128,
    timestep=150,
    reference_layer="up_blocks.2.attentions.0.transformer_blocks.0",
    refine_layers=_unet_blocks("up_blocks.2.attentions.1"),
    refine_order=1,
    preset="ensemble",
    cross_layers=_unet_blocks("up_blocks.2.attentions.0", "up_blocks.2.attentions.1"),
    output_grid=32,
    description="embedded Stable-Diffusion-style UNet, drawn scenes only",
    parameters=11_059_972,
    vocabulary=SCENES_VOCABULARY,
    familiar_error=0.062,
)
DEFAULT_MODEL = "scenes-dit"
MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _SCENES_DIT,
        _SCENES_UNET,
        _SD15,
        replace(
            _SD15,
            name="sd21",
            source="stabilityai/stable-diffusion-2-1",
            image_size=768,
            description="Stable Diffusion 2.1, photographs, any words",
            parameters=865_910_724,
            published=False,
        ),
        _PIXART,
        replace(
            _PIXART,
            name="pixart-sigma",
            pipelines=("PixArtSigmaPipeline",),
            source="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            image_size=1024,
            description="PixArt-Sigma 1024, photographs, any words",
        ),
    )
}


def list_models() -> list[ModelSpec]:
    """All models known by name, embedded ones first."""
    return list(MODELS.values())


def load(
    name: str, device: str | torch.device | None = None, dtype: torch.dtype | None = None, revision: str | None = None
) -> LoadedModel:
    """Load a model by name, hub id or local folder, and move its text encoder, VAE and denoiser to the device.

    Args:
        device: the first accelerator, else the CPU, by default.
        dtype: by default float32 on the CPU and for embedded models, float16 on an accelerator.
        revision: branch, tag or commit of a hub repository.

    Raises:
        ValueError: an unknown name, a folder without a pipeline, or a pipeline of an unsupported class.
        OSError: the hub cannot be reached or refuses the model.
    """
    import diffusers
    import torch

    spec = MODELS.get(name)
    source = _resolve(name)
    class_name = pipeline_class(source, revision)
    if class_name not in FAMILIES:
        raise ValueError(
            f"{name} is a {class_name}, which is not supported; choose a model saved as {', '.join(FAMILIES)}."
        )
    family = FAMILIES[class_name]
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    device = torch.device(device)
    if dtype is None:
        embedded = spec is not None and spec.vocabulary is not None
        dtype = torch.float32 if embedded or device.type == "cpu" else torch.float16

    with hub_errors(source):
        pipeline = getattr(diffusers, class_name).from_pretrained(
            source, dtype=dtype, revision=revision, **UNUSED_PARTS[family]
        )
    for part in ("text_encoder", "vae", DENOISERS[family]):
        getattr(pipeline, part).to(device).eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return wrap(name, pipeline)


def wrap(name: str, pipeline: Any) -> LoadedModel:
    """Make a pipeline that is already in memory ready to record.

    Args:
        name: a key of :data:`MODELS`, whose settings are then used; for any other name they are derived.
        pipeline: a diffusers pipeline of a supported class.
    """
    from goca.backbones import BACKBONES

    class_name = type(pipeline).__name__
    family = FAMILIES[class_name]
    denoiser = getattr(pipeline, DENOISERS[family])
    spec = MODELS.get(name)
    if spec is None:
        layers = BACKBONES[family].find_layers(denoiser)
        vae_factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        spec = derive_spec(name, class_name, layers, denoiser.config.sample_size * vae_factor)
    spec = replace(spec, parameters=sum(parameter.numel() for parameter in denoiser.parameters()))
    return LoadedModel(spec, pipeline, BACKBONES[family](pipeline, spec.reference_layer))


def derive_spec(name: str, class_name: str, layers: tuple[str, ...], image_size: int) -> ModelSpec:
    """Settings for a model nobody tuned, from its architecture alone.

    One rule per family, which gives SD 1.5 and PixArt the published layers:

    - UNet: the reference is the first block of the middle attention of the next-to-last up block that has attention
      (the last where there is only one); the last up block's attentions but its last refine, and so does the last
      attention of the first down block; order 2.
    - Transformer of n blocks: the reference is block (n - 1) // 2; blocks from 0.35 n to 0.61 n refine (at least the
      reference); order 5.
    """
    if FAMILIES[class_name] == "dit":
        count = len(layers)
        reference = layers[(count - 1) // 2]
        refine = tuple(layers[ceil(0.35 * count) : floor(0.61 * count) + 1]) or (reference,)
        order = 5
    else:
        stages: dict[str, list[str]] = {}
        for layer in layers:
            if layer.endswith(".transformer_blocks.0"):
                stages.setdefault(layer.split(".attentions.")[0], []).append(layer)
        up = [blocks for stage, blocks in stages.items() if stage.startswith("up_blocks")]
        middle = up[-2] if len(up) > 1 else up[-1]
        reference = middle[len(middle) // 2]
        refine = (*(up[-1][:-1] or up[-1]), *stages.get("down_blocks.0", [])[-1:])
        order = 2
    return ModelSpec(
        name=name,
        family=FAMILIES[class_name],
        pipelines=(class_name,),
        source=name,
        image_size=image_size,
        timestep=100,
        reference_layer=reference,
        refine_layers=refine,
        refine_order=order,
        description=f"{class_name} with settings derived from its architecture",
    )


def _resolve(name: str) -> str:
    """Hub id or folder behind what the user typed."""
    if name in MODELS:
        source = MODELS[name].source
        if MODELS[name].vocabulary is not None and not Path(source).is_dir():
            raise ValueError(f"The weights of {name} are missing from this installation; reinstall goca.")
        return source
    if Path(name).is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name
    raise ValueError(
        f"Unknown model {name!r}; choose one of {', '.join(MODELS)}, "
        "a hub id like owner/name, or an existing local folder."
    )
