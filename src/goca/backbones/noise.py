"""How noisy a latent is at a timestep: the schedules that diffusion and flow models were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float, Shaped
from torch import Tensor

STEPS = 1000
Timestep = int | float


@dataclass(frozen=True)
class NoiseLevel:
    """A noised latent is ``alpha * clean + sigma * gaussian``; ``time`` is the denoiser's time input, in 0 ... 1000.

    ``prediction`` says what the denoiser returns: "epsilon" (the noise), "sample" (the clean latent), "v_prediction"
    (alpha * gaussian - sigma * clean) or "flow" (gaussian - clean).
    """

    alpha: float
    sigma: float
    time: float
    prediction: str

    def clean(
        self, noisy: Float[Tensor, "batch channels *grid"], predicted: Float[Tensor, "batch channels *grid"]
    ) -> Float[Tensor, "batch channels *grid"]:
        """The clean latent that the prediction amounts to.

        Raises:
            ValueError: a kind of prediction that has no known inverse.
        """
        if self.prediction == "sample":
            return predicted
        if self.prediction == "epsilon":
            return (noisy - self.sigma * predicted) / self.alpha
        if self.prediction == "v_prediction":
            return self.alpha * noisy - self.sigma * predicted
        if self.prediction == "flow":
            return noisy - self.sigma * predicted
        raise ValueError(f"unknown prediction type {self.prediction!r} in the scheduler's configuration")


def is_flow(scheduler: Any) -> bool:
    """Whether the model was trained to follow straight lines from noise to image (rectified flow)."""
    return "FlowMatch" in type(scheduler).__name__ or bool(scheduler.config.get("use_flow_sigmas"))


def noise_level(scheduler: Any, timestep: Timestep, mu: float | None = None) -> NoiseLevel:
    """The level at ``timestep`` of 1000.

    For a flow model the timestep counts evenly spaced noise levels *before* the schedule's shift, as the strength of
    diffusers' image-to-image pipelines does, and may have a fraction: those pipelines' schedules have fewer steps.

    Args:
        scheduler: the pipeline's own; only its configuration is read, because some samplers (DPM-Solver) noise wrongly
            until their steps are set.
        mu: the ``mu`` of schedules that shift by image size.

    Raises:
        ValueError: a timestep outside the schedule, or a fraction for a model that is no flow model.
    """
    config = scheduler.config
    if not is_flow(scheduler):
        schedule = DDPMScheduler.from_config(config)
        _check(timestep, 0, schedule.config.num_train_timesteps - 1)
        if timestep != int(timestep):
            raise ValueError(f"The timestep of a diffusion model is a whole number, got {timestep}.")
        kept = float(schedule.alphas_cumprod[int(timestep)])
        return NoiseLevel(kept**0.5, (1 - kept) ** 0.5, float(timestep), schedule.config.prediction_type)
    _check(timestep, 1, STEPS)
    if "FlowMatch" in type(scheduler).__name__:
        flow = FlowMatchEulerDiscreteScheduler.from_config(config)
    else:
        flow = FlowMatchEulerDiscreteScheduler(shift=config.flow_shift)
    sigmas, place = np.linspace(1.0, 1 / STEPS, STEPS), STEPS - round(timestep)
    sigmas[place] = timestep / STEPS
    flow.set_timesteps(sigmas=sigmas.tolist(), mu=mu)
    sigma, time = float(flow.sigmas[place]), float(flow.timesteps[place])
    return NoiseLevel(1 - sigma, sigma, time, "flow")


def time_input(time: Timestep, latents: Float[Tensor, "batch channels *grid"]) -> Shaped[Tensor, " batch"]:
    """The same time for each image of a batch: a whole number as it is, another in float32."""
    dtype = torch.int64 if isinstance(time, int) else torch.float32
    return torch.full((len(latents),), time, dtype=dtype, device=latents.device)


def _check(timestep: Timestep, first: int, last: int) -> None:
    if not first <= timestep <= last:
        raise ValueError(f"The timestep must be from {first} to {last}, got {timestep}.")
