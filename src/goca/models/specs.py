"""The models known by name, and the settings their segmentation works best with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from goca.datasets.scenes import CLASS_NAMES

WEIGHTS = Path(__file__).parents[1] / "embedded" / "weights"
SCENES_VOCABULARY: tuple[str, ...] = (*CLASS_NAMES, "a", "and")


@dataclass(frozen=True)
class ModelSpec:
    """A model and the settings its segmentation works best with.

    Attributes:
        name: what users type.
        pipelines: diffusers pipeline classes the model may be saved as.
        source: hub id or local folder.
        image_size: side of the square image, in pixels, the model was trained on.
        timestep: noise level of the one forward, of 1000.
        reference_layer: layer that gives the reference features; blank where this and the next settings are derived
            from the architecture when the model is loaded, see :meth:`goca.backbones.Backbone.derive_settings`.
        refine_layers: blocks whose self-attention refines the maps.
        refine_order: how often it is applied.
        preset: the method's preset that works best with this model, used unless the caller names one.
        head_rule: rule for heads where the method does not name one.
        layer_rule: rule for layers where the method does not name one.
        cross_layers: blocks whose cross-attention is aggregated; ``None`` for all.
        manual_layers: hand-picked blocks of the "manual" baseline; empty where none were published.
        output_grid: side of the maps' grid.
        description: one line for people.
        parameters: size of the denoiser.
        total_parameters: size of all components together.
        published: whether the settings are those of the published experiments.
        vocabulary: all words an embedded model knows; ``None`` for models of open vocabulary.
        ood_threshold: mean squared error of the predicted clean latent above which an image is not of the model's
            world; only for models that predict the clean latent.
    """

    name: str
    pipelines: tuple[str, ...]
    source: str
    image_size: int
    reference_layer: str = ""
    refine_layers: tuple[str, ...] = ()
    refine_order: int = 0
    timestep: int = 100
    preset: str = "paper"
    head_rule: str = "dot-product w/o clamp"
    layer_rule: str = "dot-product similarity"
    cross_layers: tuple[str, ...] | None = None
    manual_layers: tuple[str, ...] = ()
    output_grid: int = 64
    description: str = ""
    parameters: int | None = None
    total_parameters: int | None = None
    published: bool = False
    vocabulary: tuple[str, ...] | None = None
    ood_threshold: float | None = None

    @property
    def memory_gib(self) -> float | None:
        """What the weights take in 16 bits."""
        return None if self.total_parameters is None else self.total_parameters * 2 / 2**30


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
_FLUX = ModelSpec(
    name="flux-dev",
    pipelines=("FluxPipeline",),
    source="black-forest-labs/FLUX.1-dev",
    image_size=1024,
    timestep=150,
    reference_layer="single_transformer_blocks.8",
    refine_layers=_dit_blocks(12, 12) + _dit_blocks(18, 18),
    refine_order=2,
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
    source="Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
    image_size=1024,
    reference_layer="blocks.25",
    refine_layers=tuple(f"blocks.{index}" for index in range(20, 30)),
    refine_order=4,
    head_rule="average",
    cross_layers=tuple(f"blocks.{index}" for index in range(20, 30)),
    description="HunyuanDiT 1.2",
    parameters=1_499_952_032,
    total_parameters=3_605_600_391,
    published=True,
)


def _derived(
    name: str,
    pipeline: str,
    source: str,
    description: str,
    parameters: int | None,
    total_parameters: int | None = None,
    image_size: int = 1024,
    layer_rule: str = "dot-product similarity",
) -> ModelSpec:
    """A model without published settings; they follow from its architecture when it is loaded."""
    return ModelSpec(
        name,
        (pipeline,),
        source,
        image_size,
        layer_rule=layer_rule,
        description=description,
        parameters=parameters,
        total_parameters=total_parameters,
    )


_SD3, _FLUX2, _SANA = "StableDiffusion3Pipeline", "Flux2KleinPipeline", "SanaPipeline"
_DERIVED = (
    _derived(
        "sdxl-turbo",
        "StableDiffusionXLPipeline",
        "stabilityai/sdxl-turbo",
        "Stable Diffusion XL Turbo",
        2_567_463_684,
        3_468_837_867,
        image_size=512,
    ),
    _derived(
        "playground-v2.5",
        "StableDiffusionXLPipeline",
        "playgroundai/playground-v2.5-1024px-aesthetic",
        "Playground 2.5",
        2_567_463_684,
        3_468_837_867,
    ),
    _derived(
        "sd3-medium",
        _SD3,
        "stabilityai/stable-diffusion-3-medium-diffusers",
        "Stable Diffusion 3 medium",
        2_028_328_000,
        7_692_768_483,
    ),
    _derived(
        "sd35-medium",
        _SD3,
        "stabilityai/stable-diffusion-3.5-medium",
        "Stable Diffusion 3.5 medium",
        2_243_171_520,
        7_907_612_003,
    ),
    _derived(
        "sd35-large",
        _SD3,
        "stabilityai/stable-diffusion-3.5-large",
        "Stable Diffusion 3.5 large",
        8_056_627_520,
        13_721_068_003,
    ),
    _derived(
        "flux2-dev", "Flux2Pipeline", "black-forest-labs/FLUX.2-dev", "FLUX.2 dev", 32_223_281_152, 56_318_688_547
    ),
    _derived(
        "flux2-klein-4b",
        _FLUX2,
        "black-forest-labs/FLUX.2-klein-4B",
        "FLUX.2 klein 4B",
        3_875_544_576,
        7_982_058_787,
    ),
    _derived(
        "flux2-klein-9b",
        _FLUX2,
        "black-forest-labs/FLUX.2-klein-9B",
        "FLUX.2 klein 9B",
        9_078_581_248,
        17_353_362_723,
    ),
    _derived("qwen-image", "QwenImagePipeline", "Qwen/Qwen-Image", "Qwen-Image", 20_430_401_088, 28_849_460_275),
    _derived(
        "z-image-turbo", "ZImagePipeline", "Tongyi-MAI/Z-Image-Turbo", "Z-Image Turbo", 6_154_908_736, 10_261_196_515
    ),
    _derived(
        "lumina2", "Lumina2Pipeline", "Alpha-VLLM/Lumina-Image-2.0", "Lumina-Image 2.0", 2_609_769_152, 5_307_930_723
    ),
    _derived("auraflow", "AuraFlowPipeline", "fal/AuraFlow-v0.3", "AuraFlow 0.3", 6_833_439_744, 8_140_644_583),
    _derived("chroma", "ChromaPipeline", "lodestones/Chroma1-HD", "Chroma1 HD", 8_899_983_424, 13_746_113_763),
    _derived("cogview4", "CogView4Pipeline", "THUDM/CogView4-6B", "CogView4 6B", 6_369_118_272, 15_554_413_283),
    _derived("kolors", "KolorsPipeline", "Kwai-Kolors/Kolors-diffusers", "Kolors", 2_579_458_820, 8_906_696_683),
    _derived(
        "sana",
        _SANA,
        "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
        "Sana 1.6B; no self-attention maps, so equal layer weights and no refinement",
        1_604_462_752,
        4_531_054_915,
        layer_rule="vanilla",
    ),
    _derived(
        "sana-1.5",
        _SANA,
        "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers",
        "Sana 1.5 4.8B; no self-attention maps, so equal layer weights and no refinement",
        4_721_825_952,
        7_648_418_115,
        layer_rule="vanilla",
    ),
)
DEFAULT_MODEL = "scenes-dit"
MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _SCENES_DIT,
        _SCENES_UNET,
        _SCENES_MMDIT,
        _SD15,
        replace(
            _SD15,
            name="sd21",
            source="stabilityai/stable-diffusion-2-1",
            image_size=768,
            description="Stable Diffusion 2.1",
            parameters=865_910_724,
            total_parameters=1_289_952_427,
            published=False,
        ),
        _SDXL,
        _PIXART,
        replace(
            _PIXART,
            name="pixart-sigma",
            pipelines=("PixArtSigmaPipeline",),
            source="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            image_size=1024,
            description="PixArt-Sigma 1024",
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
        *_DERIVED,
    )
}
