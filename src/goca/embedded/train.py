"""Train the embedded models from pictures and captions: ``python -m goca.embedded.train STAGE --run FOLDER``, where
STAGE is vae, latents or denoiser KIND; or ``rung NAME``, a model of the scaling study.

The order is vae, latents (the training scenes encoded once), then the denoisers dit, unet and mmdit, in any order or
side by side.
Every stage resumes from its last checkpoint when it is called again with the same folder. Snapshots of the averaged
weights go to ``FOLDER/<stage>/snapshots``; ``python -m goca.embedded.curve`` measures them and ``python -m
goca.embedded.export`` makes pipelines of them. Runs on a CPU or a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from goca.embedded import architectures as arch
from goca.embedded.checkpoints import append_log, load_weights, save_weights, write_checkpoint
from goca.embedded.data import stream_pictures, to_unit
from goca.embedded.denoiser import BATCH, CHECKPOINT_EVERY, Training, train
from goca.embedded.optimisers import Optimisers
from goca.embedded.rungs import RUNGS, SCENES, describe, keep_configuration, rung_folder
from goca.lookup import look_up
from goca.models.specs import EMBEDDED_VAE, WEIGHTS
from goca.storage.json_reader import read_json

app = typer.Typer(help=__doc__, no_args_is_help=True)
Run = Annotated[Path, typer.Option(help="Folder for checkpoints, snapshots and logs.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Bfloat16 = Annotated[
    bool, typer.Option(help="Multiply in bfloat16: about twice as fast where the chip has matrix units.")
]


def load_vae(run: Path, device: str) -> AutoencoderKL:
    """The trained autoencoder of a run."""
    vae = arch.build_vae()
    path = run / "vae" / "vae.safetensors"
    if not path.exists():
        raise typer.BadParameter(f"{path} is missing: run `python -m goca.embedded.train vae --run {run}` first")
    load_weights(path, {"vae": vae})
    vae.register_to_config(scaling_factor=read_json(run / "vae" / "vae.json")["scaling_factor"])
    return vae.eval().to(device)


@app.command()
def vae(run: Run, steps: int = 1200, batch: int = 8, crop: int = 64, device: Device = "cpu") -> None:
    """Train the autoencoder on crops: absolute and gradient error, and a small Kullback-Leibler term."""
    model = arch.build_vae().to(device)
    optimisers = Optimisers([model], steps, decay=0.6)
    checkpoint = run / "vae" / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        first = state["step"]
        optimisers.load_state_dict(state, first)
    batches = stream_pictures(first * batch, batch, steps - first)
    for step, (images, _) in enumerate(track(batches, "vae", total=steps - first), start=first):
        generator = torch.Generator().manual_seed(step)
        top, left = torch.randint(0, images.shape[-1] - crop + 1, (2,), generator=generator).tolist()
        x = to_unit(images[..., top : top + crop, left : left + crop]).to(device)
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.sample(generator=generator)).sample
        loss = F.l1_loss(y, x) + 0.5 * _gradient_error(y, x) + 1e-5 * posterior.kl().mean() / crop**2 * 16
        optimisers.descend(loss)
        if step % 50 == 0:
            append_log(run / "vae" / "log.jsonl", {"step": step, "loss": loss.item(), "l1": F.l1_loss(y, x).item()})
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state = {"model": model.state_dict(), **optimisers.state_dict(), "step": step + 1}
            write_checkpoint(checkpoint, state)
    images, _ = next(iter(stream_pictures(0, 256, 1)))
    with torch.inference_mode():
        spread = model.eval().encode(to_unit(images).to(device)).latent_dist.mean.std().item()
    save_weights(run / "vae" / "vae.safetensors", {"vae": model})
    (run / "vae" / "vae.json").write_text(json.dumps({"scaling_factor": 1 / spread}))


def _gradient_error(y: Tensor, x: Tensor) -> Tensor:
    return F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(y.diff(dim=-2), x.diff(dim=-2))


@app.command("latents")
def encode_scenes(run: Run, count: int = 32_000, device: Device = "cpu") -> None:
    """Encode the training scenes once; both denoisers learn from these."""
    model = load_vae(run, device)
    latents: list[Tensor] = []
    classes: list[tuple[int, ...]] = []
    with torch.inference_mode():
        for images, captions in track(stream_pictures(0, 64, count // 64), "latents", total=count // 64):
            mean = model.encode(to_unit(images).to(device)).latent_dist.mean * model.config.scaling_factor
            latents.append(mean.half().cpu())
            classes.extend(captions)
    write_checkpoint(run / "latents.pt", {"latents": torch.cat(latents), "classes": classes})


@app.command("denoiser")
def train_denoiser(
    kind: Annotated[str, typer.Argument(help="dit, unet or mmdit")],
    run: Run,
    steps: int = 1500,
    snapshot_every: int = 200,
    device: Device = "cpu",
    compile_model: bool = False,
    bfloat16: Bfloat16 = False,
) -> None:
    """Train a denoiser and its text encoders together, see :mod:`goca.embedded.objectives`."""
    option(arch.DENOISERS, kind, "denoiser")
    snapshots = range(snapshot_every, steps, snapshot_every)
    plan = Training(kind, steps, snapshots, device=device, compile_model=compile_model, bfloat16=bfloat16)
    train(plan, run, run / kind)


def option(table: Mapping[str, Any] | Collection[str], name: str, kind: str) -> Any:
    """As :func:`goca.lookup.look_up`, for an argument of a command."""
    try:
        return look_up(table, name, kind)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command("rung")
def train_rung(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RUNGS)}.")],
    run: Run,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial weights, the samples' order and the noise.")] = 0,
    device: Device = "cpu",
) -> None:
    """Train one model of the scaling study, see :mod:`goca.embedded.rungs`; all that it needs is made first."""
    rung = option(RUNGS, name, "rung")
    if not (run / "vae").exists():
        adopt_vae(run)
    if not (run / "latents.pt").exists():
        encode_scenes(run, SCENES, device)
    plan = rung.plan(seed, device)
    folder = rung_folder(run, name, seed)
    try:
        keep_configuration(folder, describe(name, plan, run))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    train(plan, run, folder)


@app.command()
def adopt(run: Run, weights: Annotated[Path, typer.Option(help="Folder of the exported pipelines.")] = WEIGHTS) -> None:
    """Fill a new run folder from exported pipelines, to train on from them (the optimizers start afresh)."""
    if run.exists() and any(run.iterdir()):
        raise typer.BadParameter(f"{run} is not empty; name a new folder")
    for kind in arch.DENOISERS:
        source = weights / f"scenes-{kind}"
        model = arch.build_model(kind)
        for name, fresh in model.items():
            part_class: Any = type(fresh)
            model[name] = part_class.from_pretrained(source / name, torch_dtype=torch.float32)
        step = read_json(source / "training.json")["samples_seen"] // BATCH
        state = {"model": model.state_dict(), "average": AveragedModel(model).state_dict(), "step": step}
        write_checkpoint(run / kind / "checkpoint.pt", {**state, **Optimisers(model.values(), step).state_dict()})
    adopt_vae(run, weights)


def adopt_vae(run: Path, weights: Path = WEIGHTS) -> None:
    """Copy the shipped autoencoder into a run folder."""
    vae = AutoencoderKL.from_pretrained(EMBEDDED_VAE if weights == WEIGHTS else weights / "scenes-dit" / "vae")
    save_weights(run / "vae" / "vae.safetensors", {"vae": vae})
    (run / "vae" / "vae.json").write_text(json.dumps({"scaling_factor": vae.config.scaling_factor}))


if __name__ == "__main__":
    app()
