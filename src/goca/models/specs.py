"""The models known by name: embedded ones, those with published settings, and those with derived settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from goca.datasets.scenes import CLASS_NAMES
from goca.models.derived import DERIVED
from goca.models.model_spec import ModelSpec

WEIGHTS = Path(__file__).resolve().parents[1] / "embedded" / "weights"
EMBEDDED_VAE = WEIGHTS / "vae"  # of all embedded models; their folders have none of their own
SCENES_VOCABULARY: tuple[str, ...] = (*CLASS_NAMES, "a", "and")


__all__ = ["DEFAULT_MODEL", "EMBEDDED_VAE", "MODELS", "WEIGHTS", "ModelSpec"]


def _unet_blocks(*owners: str) -> tuple[str, ...]:
    return tuple(f"{owner}.transformer_blocks.0" for owner in owners)


def _dit_blocks(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"transformer_blocks.{index}" for index in range(first, last + 1))


_SD15 = ModelSpec(
    name="sd15",
    pipelines=("StableDiffusionPipeline",),
    source="stable-diffusion-v1-5/stable-diffusion-v1-5",
    image_size=512,
    reference_layer="up_blocks.2.attentions.1.transformer_blocks.0",
    refine_layers=_unet_blocks("up_blocks.3.attentions.0", "up_blocks.3.attentions.1", "down_blocks.0.attentions.1"),
    refine_order=2,
    manual_layers=_unet_blocks(
        *(f"down_blocks.2.attentions.{index}" for index in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.1.attentions.{index}" for index in range(3)),
        *(f"up_blocks.2.attentions.{index}" for index in range(2)),
    ),
    description="Stable Diffusion 1.5",
    parameters=859_520_964,
    total_parameters=1_066_235_307,
    published=True,
)
_SD21 = replace(
    _SD15,
    name="sd21",
    source="stabilityai/stable-diffusion-2-1",
    image_size=768,
    description="Stable Diffusion 2.1",
    parameters=865_910_724,
    total_parameters=1_289_952_427,
    published=False,
)
_PIXART = ModelSpec(
    name="pixart-alpha",
    pipelines=("PixArtAlphaPipeline",),
    source="PixArt-alpha/PixArt-XL-2-512x512",
    image_size=512,
    reference_layer="transformer_blocks.13",
    refine_layers=_dit_blocks(10, 17),
    refine_order=5,
    description="PixArt-alpha 512",
    parameters=610_856_096,
    total_parameters=5_456_820_615,
    published=True,
)
_SIGMA = replace(
    _PIXART,
    name="pixart-sigma",
    pipelines=("PixArtSigmaPipeline",),
    source="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    image_size=1024,
    vanilla_layers=_dit_blocks(10, 17),
    description="PixArt-Sigma 1024",
)
# Blocks 8, 28 and 47, counting the 19 double blocks and then the single ones.
_FLUX_VANILLA = ("transformer_blocks.8", "single_transformer_blocks.9", "single_transformer_blocks.28")
_FLUX = ModelSpec(
    name="flux-dev",
    pipelines=("FluxPipeline",),
    source="black-forest-labs/FLUX.1-dev",
    image_size=1024,
    timestep=179,  # strength 0.15 of 28 steps: the noise level is 5 / 28 before the schedule's shift
    schedule_steps=28,
    reference_layer="single_transformer_blocks.8",
    refine_layers=_dit_blocks(12, 12) + _dit_blocks(18, 18),
    refine_order=2,
    vanilla_layers=_FLUX_VANILLA,
    vanilla_refine_layers=_FLUX_VANILLA,
    head_rule="average",
    description="FLUX.1 dev",
    parameters=11_901_408_320,
    total_parameters=16_870_599_139,
    published=True,
)
_SCENES_DIT = ModelSpec(
    name="scenes-dit",
    pipelines=("PixArtAlphaPipeline",),
    source=str(WEIGHTS / "scenes-dit"),
    image_size=128,
    timestep=200,
    reference_layer="transformer_blocks.4",
    refine_layers=_dit_blocks(6, 6),
    refine_order=1,
    preset="sharp",
    cross_layers=_dit_blocks(1, 2) + _dit_blocks(4, 4),
    output_grid=16,
    description="embedded PixArt-style transformer, drawn scenes only",
    parameters=5_125_072,
    vocabulary=SCENES_VOCABULARY,
    ood_threshold=0.054,
)
_SCENES_UNET = ModelSpec(
    name="scenes-unet",
    pipelines=("StableDiffusionPipeline",),
    source=str(WEIGHTS / "scenes-unet"),
    image_size=128,
    timestep=150,
    reference_layer="up_blocks.1.attentions.0.transformer_blocks.0",
    refine_layers=_unet_blocks("up_blocks.2.attentions.1"),
    refine_order=1,
    preset="sharp",
    cross_layers=_unet_blocks("up_blocks.2.attentions.0", "up_blocks.2.attentions.1"),
    output_grid=32,
    description="embedded Stable-Diffusion-style UNet, drawn scenes only",
    parameters=11_059_972,
    vocabulary=SCENES_VOCABULARY,
    ood_threshold=0.046,
)
_SCENES_MMDIT = ModelSpec(
    name="scenes-mmdit",
    pipelines=("FluxPipeline",),
    source=str(WEIGHTS / "scenes-mmdit"),
    image_size=128,
    timestep=150,
    reference_layer="single_transformer_blocks.1",
    refine_layers=tuple(f"single_transformer_blocks.{index}" for index in (1, 2, 3)),
    refine_order=2,
    preset="sharp",
    head_rule="average",
    output_grid=16,
    description="embedded FLUX-style transformer, drawn scenes only",
    parameters=6_472_976,
    vocabulary=SCENES_VOCABULARY,
    ood_threshold=0.0148,
)
_SDXL = ModelSpec(
    name="sdxl",
    pipelines=("StableDiffusionXLPipeline",),
    source="stabilityai/stable-diffusion-xl-base-1.0",
    image_size=1024,
    reference_layer="up_blocks.1.attentions.0.transformer_blocks.0",
    refine_layers=(
        *(f"up_blocks.1.attentions.{index}.transformer_blocks.{block}" for index in range(2) for block in range(2)),
        "up_blocks.1.attentions.2.transformer_blocks.0",
        *(f"down_blocks.1.attentions.0.transformer_blocks.{block}" for block in range(2)),
    ),
    refine_order=2,
    description="Stable Diffusion XL",
    parameters=2_567_463_684,
    total_parameters=3_468_837_867,
    published=True,
)
_HUNYUAN = ModelSpec(
    name="hunyuandit",
    pipelines=("HunyuanDiTPipeline",),
    source="Tencent-Hunyuan/HunyuanDiT-Diffusers",
    image_size=1024,
    timestep=81,  # strength 0.1 of the pipeline's 50 steps
    reference_layer="blocks.25",
    refine_layers=tuple(f"blocks.{index}" for index in range(20, 30)),
    refine_order=4,
    head_rule="average",
    cross_layers=tuple(f"blocks.{index}" for index in range(20, 30)),
    description="HunyuanDiT 1.0",
    parameters=1_516_534_048,
    total_parameters=3_622_182_407,
    published=True,
)


DEFAULT_MODEL = "scenes-dit"
MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _SCENES_DIT,
        _SCENES_UNET,
        _SCENES_MMDIT,
        _SD15,
        _SD21,
        replace(
            _SD21,
            name="sd21-base",
            source="stabilityai/stable-diffusion-2-1-base",
            image_size=512,
            description="Stable Diffusion 2.1 base",
        ),
        _SDXL,
        _PIXART,
        _SIGMA,
        replace(
            _SIGMA,
            name="pixart-sigma-512",
            source="PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
            rest_source=_SIGMA.source,
            image_size=512,
            cross_layers=_SIGMA.vanilla_layers,
            description="PixArt-Sigma 512, with the settings of the published generation",
            published=False,
        ),
        _FLUX,
        replace(
            _FLUX,
            name="flux-schnell",
            source="black-forest-labs/FLUX.1-schnell",
            description="FLUX.1 schnell",
            parameters=11_891_178_560,
            total_parameters=16_860_369_379,
            published=False,
        ),
        _HUNYUAN,
        replace(
            _HUNYUAN,
            name="hunyuandit-v1.2",
            source="Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
            description="HunyuanDiT 1.2",
            parameters=1_499_952_032,
            total_parameters=3_605_600_391,
            published=False,
        ),
        *DERIVED,
    )
}
