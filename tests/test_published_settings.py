"""The settings of the published experiments, model by model, against diffusers' own schedulers and pipelines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from goca import Segmenter
from goca.backbones.noise import noise_level
from goca.models import wrap
from goca.models.specs import MODELS

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
SCALED = {"beta_start": 0.00085, "beta_schedule": "scaled_linear"}
LEADING = {"steps_offset": 1, "timestep_spacing": "leading"}
FLUX = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


@dataclass(frozen=True)
class Row:
    """A model's published run: the start of an image-to-image run of some steps and strength."""

    model: str
    family: str
    scheduler: Any
    steps: int = 1000
    strength: float = 0.1
    timestep: int = 100


ROWS = (
    Row("sd15", "unet", PNDMScheduler(**SCALED, beta_end=0.012, skip_prk_steps=True, steps_offset=1), timestep=101),
    Row("sdxl", "sdxl", EulerDiscreteScheduler(**SCALED, beta_end=0.012, **LEADING)),
    Row("pixart-alpha", "dit", DPMSolverMultistepScheduler(beta_schedule="linear")),
    Row("pixart-sigma", "dit", DPMSolverMultistepScheduler(beta_schedule="linear")),
    Row(
        "hunyuandit",
        "hunyuandit",
        DDPMScheduler(**SCALED, beta_end=0.03, prediction_type="v_prediction", **LEADING),
        steps=50,
        timestep=81,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model)
def test_the_noise_level_is_where_the_published_run_starts(row: Row) -> None:
    row.scheduler.set_timesteps(row.steps)
    started = StableDiffusionImg2ImgPipeline.get_timesteps(
        SimpleNamespace(scheduler=row.scheduler), row.steps, row.strength, "cpu"
    )[0][0]
    assert round(float(started)) == row.timestep
    time, alpha, sigma = level_at_the_denoiser(row.model, row.family, row.scheduler)
    assert abs(time - row.timestep) <= (row.model == "sd15")  # there 100 is as good as PNDM's 101
    kept = float(DDPMScheduler.from_config(row.scheduler.config).alphas_cumprod[int(time)])
    assert (alpha, sigma) == pytest.approx((kept**0.5, (1 - kept) ** 0.5), abs=1e-4)


def test_flux_starts_at_the_24th_of_28_steps() -> None:
    mu = calculate_shift(4096)  # tokens of an image of 1024 pixels
    FLUX.set_timesteps(sigmas=np.linspace(1.0, 1 / 28, 28).tolist(), mu=mu)
    (started, *_), _ = FluxImg2ImgPipeline.get_timesteps(SimpleNamespace(scheduler=FLUX), 28, 0.15, "cpu")
    level = noise_level(FLUX, MODELS["flux-dev"].exact_timestep, mu)
    assert level.time == pytest.approx(float(started), abs=1e-3) and level.sigma == pytest.approx(0.407, abs=5e-4)
    assert MODELS["flux-dev"].timestep == 179 and MODELS["flux-dev"].exact_timestep == pytest.approx(5000 / 28)
    unshifted = noise_level(FlowMatchEulerDiscreteScheduler(), MODELS["flux-dev"].exact_timestep)
    assert unshifted.sigma == pytest.approx(5 / 28, abs=1e-6)

    time, alpha, sigma = level_at_the_denoiser("flux-dev", "flux", FLUX)  # of a smaller image, so less shifted
    FLUX.set_timesteps(sigmas=np.linspace(1.0, 1 / 28, 28).tolist(), mu=calculate_shift(64))
    assert (1000 * time, 1 - alpha, sigma) == pytest.approx((float(FLUX.timesteps[23]), sigma, sigma), rel=1e-4)
    assert sigma == pytest.approx(float(FLUX.sigmas[23]), abs=1e-4)


def level_at_the_denoiser(model: str, family: str, scheduler: Any) -> tuple[float, float, float]:
    """What a tiny denoiser gets with the settings of ``model``: its time, and the shares of image and noise."""
    pipeline = tiny.FAMILIES[family].build()
    pipeline.scheduler = scheduler
    loaded, published = wrap("tiny", pipeline), MODELS[model]
    spec = replace(
        loaded.spec, timestep=published.timestep, schedule_steps=published.schedule_steps, output_grid=8, refine_order=0
    )
    segmenter = Segmenter(replace(loaded, spec=spec))
    backbone, given = loaded.backbone, {}
    denoise = backbone.denoise

    def watch(latents: Any, timestep: float, conditioning: Any) -> Any:
        given["latents"] = latents
        return denoise(latents, timestep, conditioning)

    def time_of(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        value = named["timestep"] if "timestep" in named else arguments[1]
        given["time"] = float(torch.as_tensor(value).flatten()[0])

    backbone.denoise = watch
    handle = backbone.denoiser.register_forward_pre_hook(time_of, with_kwargs=True)
    segmenter(IMAGE, ["cat", "sky"])
    handle.remove()
    clean = segmenter.encode([IMAGE])
    noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(0))
    parts = torch.stack([clean.flatten(), noise.flatten()], dim=1).double()
    alpha, sigma = torch.linalg.lstsq(parts, given["latents"].flatten()[:, None].double()).solution[:, 0].tolist()
    return given["time"], alpha, sigma
