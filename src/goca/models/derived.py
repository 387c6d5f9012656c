"""Models without published settings: they follow from the architecture when the model is loaded."""

from __future__ import annotations

from goca.models.model_spec import ModelSpec


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
DERIVED = (
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
