"""Make a stock diffusers pipeline of a training run: ``python -m goca.embedded.export KIND --run FOLDER``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, DiffusionPipeline

from goca.embedded import architectures as arch
from goca.embedded.checkpoints import load_weights
from goca.embedded.train import load_vae
from goca.models.fingerprint import module_digest
from goca.models.specs import EMBEDDED_VAE, WEIGHTS
from goca.storage.json_reader import read_json_lines


def load_snapshot(kind: str, run: Path, snapshot: Path, size: Mapping[str, int] | None = None) -> DiffusionPipeline:
    """The pipeline of family ``kind`` with the averaged weights of one snapshot, in float32.

    Args:
        size: of the denoiser, see :func:`goca.embedded.architectures.build_model`.
    """
    model = arch.build_model(kind, **(size or {})).eval()
    load_weights(snapshot, dict(model.items()))
    return arch.assemble(kind, load_vae(run, "cpu"), model)


def list_snapshots(kind: str, run: Path) -> list[Path]:
    """Snapshots of a run, oldest first; the stem of each is the number of samples seen."""
    return sorted((run / kind / "snapshots").glob("*.safetensors"))


def export(
    kind: Annotated[str, typer.Argument(help="dit, unet or mmdit")],
    run: Annotated[Path, typer.Option(help="Folder of the training run.")],
    out: Annotated[Path, typer.Option(help="Where the pipelines go.")] = WEIGHTS,
) -> None:
    """Write the newest snapshot as float16 safetensors in diffusers format."""
    snapshots = list_snapshots(kind, run)
    if not snapshots:
        raise typer.BadParameter(
            f"{run} holds no snapshot of {kind}; train it first with `python -m goca.embedded.train denoiser {kind}`"
        )
    target = out / f"scenes-{kind}"
    pipeline = load_snapshot(kind, run, snapshots[-1]).to(dtype=torch.float16)
    if out == WEIGHTS:
        check_autoencoder(pipeline.vae)
    pipeline.save_pretrained(target)
    if out == WEIGHTS:
        shutil.rmtree(target / "vae")
    log = read_json_lines(run / kind / "log.jsonl")
    origin = {
        "samples_seen": int(snapshots[-1].stem),
        "final_loss": log[-1]["loss"],
        "vae_steps": _last(run / "vae" / "log.jsonl"),
    }
    (target / "training.json").write_text(json.dumps(origin, indent=2) + "\n")


def check_autoencoder(own: AutoencoderKL) -> None:
    """Refuse another autoencoder than that of the shipped pipelines, which all have the same.

    Raises:
        typer.BadParameter: it is another one.
    """
    shared = AutoencoderKL.from_pretrained(EMBEDDED_VAE, torch_dtype=own.dtype)
    if module_digest(own) != module_digest(shared):
        raise typer.BadParameter("the shipped pipelines have another autoencoder than this run; name another --out")


def _last(log: Path) -> int:
    return int(read_json_lines(log)[-1]["step"])


if __name__ == "__main__":
    typer.run(export)
