"""The models of the scaling study: three families in three sizes, all trained alike.

All rungs see the same 16,000 scenes through the shipped autoencoder, in captions written by the same rule, and the same
number of samples; nothing is chosen per rung but its size. Snapshots lie at five amounts of training, each twice the
one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goca.embedded import architectures as arch
from goca.embedded.data import TRAINING_SEED, load_latents
from goca.embedded.denoiser import BATCH, Training
from goca.storage.atomic import write_atomically
from goca.storage.json_reader import read_json

SCENES = 16_000
STEPS = 800
SNAPSHOTS = tuple(STEPS // part for part in (16, 8, 4, 2, 1))


@dataclass(frozen=True)
class Rung:
    """A family and the size of its denoiser.

    Attributes:
        kind: "dit", "unet" or "mmdit".
        size: arguments of the family's builder, see :func:`goca.embedded.architectures.build_model`.
    """

    kind: str
    size: Mapping[str, int]

    def plan(self, seed: int, device: str = "cpu") -> Training:
        """The training, the same for all rungs."""
        return Training(self.kind, STEPS, SNAPSHOTS, self.size, seed, device, bfloat16=True)

    def parameters(self) -> int:
        """Number of the denoiser's parameters."""
        denoiser = arch.build_model(self.kind, **self.size)[arch.DENOISERS[self.kind]]
        return sum(parameter.numel() for parameter in denoiser.parameters())


RUNGS: dict[str, Rung] = {
    "dit-1m": Rung("dit", {"blocks": 6, "heads": 3}),
    "dit-5m": Rung("dit", {"blocks": 8, "heads": 6}),
    "dit-12m": Rung("dit", {"blocks": 11, "heads": 8}),
    "unet-1m": Rung("unet", {"width": 20}),
    "unet-5m": Rung("unet", {"width": 44}),
    "unet-12m": Rung("unet", {"width": 64}),
    "mmdit-1m": Rung("mmdit", {"double": 2, "single": 3, "heads": 3}),
    "mmdit-5m": Rung("mmdit", {"double": 2, "single": 4, "heads": 6}),
    "mmdit-12m": Rung("mmdit", {"double": 3, "single": 4, "heads": 8}),
}


def rung_folder(run: Path, name: str, seed: int) -> Path:
    """Where a rung's checkpoint, log, configuration and snapshots lie."""
    return run / f"{name}-seed{seed}"


def describe(name: str, plan: Training, run: Path) -> dict[str, Any]:
    """All that a trained rung depends on, as JSON values.

    Raises:
        ValueError: the folder's latents are not those of the study.
    """
    latents, _ = load_latents(run)
    if len(latents) != SCENES:
        raise ValueError(f"{run / 'latents.pt'} holds {len(latents)} scenes, not {SCENES}; name another folder")
    return {
        "rung": name,
        "family": plan.kind,
        "size": dict(plan.size),
        "parameters": RUNGS[name].parameters(),
        "seed": plan.seed,
        "samples": plan.steps * BATCH,
        "snapshots": [step * BATCH for step in plan.snapshots],
        "batch": BATCH,
        "bfloat16": plan.bfloat16,
        "scenes": {"series": TRAINING_SEED, "count": SCENES},
    }


def keep_configuration(folder: Path, configuration: Mapping[str, Any]) -> None:
    """Write ``config.json`` into the folder of a training.

    Raises:
        ValueError: another one lies there already.
    """
    path = folder / "config.json"
    if path.exists():
        if read_json(path) != configuration:
            raise ValueError(f"{folder} holds a training with other settings; name another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(configuration, indent=2) + "\n")
