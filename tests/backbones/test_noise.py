"""Noise levels against diffusers' own schedulers."""

import math

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from goca.backbones.noise import NoiseLevel, noise_level


def test_diffusion_models_are_noised_as_a_ddpm_scheduler_does() -> None:
    scheduler = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = DDPMScheduler.from_config(scheduler.config).add_noise(clean, noise, torch.tensor([100]))
    level = noise_level(scheduler, 100)
    torch.testing.assert_close(level.alpha * clean + level.sigma * noise, expected)
    assert level.time == 100 and level.prediction == "v_prediction"


@pytest.mark.parametrize(
    ("scheduler", "mu", "shift"),
    [
        (FlowMatchEulerDiscreteScheduler(), None, 1.0),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), None, 3.0),
        (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 1.15, math.exp(1.15)),
        (DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0), None, 3.0),
    ],
)
def test_flow_models_count_the_timestep_before_the_shift(scheduler, mu, shift) -> None:
    level = noise_level(scheduler, 150, mu)
    sigma = shift * 0.15 / (1 + (shift - 1) * 0.15)
    assert level.sigma == pytest.approx(sigma, rel=1e-5) and level.alpha == pytest.approx(1 - sigma, rel=1e-5)
    assert level.time == pytest.approx(1000 * sigma, rel=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow"])
def test_the_clean_latent_follows_from_a_perfect_prediction(prediction: str) -> None:
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    level = NoiseLevel(0.7, 0.3 if prediction == "flow" else math.sqrt(1 - 0.7**2), 100.0, prediction)
    perfect = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": level.alpha * noise - level.sigma * clean,
        "flow": noise - clean,
    }[prediction]
    torch.testing.assert_close(level.clean(level.alpha * clean + level.sigma * noise, perfect), clean)


def test_timesteps_outside_the_schedule_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 999, got 1000"):
        noise_level(DDPMScheduler(), 1000)
    with pytest.raises(ValueError, match="from 1 to 1000, got 0"):
        noise_level(FlowMatchEulerDiscreteScheduler(), 0)
    with pytest.raises(ValueError, match="unknown prediction type 'odd'"):
        NoiseLevel(1.0, 0.0, 0.0, "odd").clean(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
