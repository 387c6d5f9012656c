"""Train the embedded models from pictures and captions: ``python -m goca.embedded.train STAGE --run FOLDER``, where
STAGE is vae, latents or denoiser KIND.

The order is vae, latents (the training scenes encoded once), then the denoisers dit, unet and mmdit, in any order or
side by side.
Every stage resumes from its last checkpoint when it is called again with the same folder. Snapshots of the averaged
weights go to ``FOLDER/<stage>/snapshots``; ``python -m goca.embedded.curve`` measures them and ``python -m
goca.embedded.export`` makes pipelines of them. Runs on a CPU or a GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from rich.progress import Progress, track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from goca.embedded import architectures as arch
from goca.embedded.data import load_latents, stream_pictures, to_unit, write_caption
from goca.embedded.muon import Muon
from goca.embedded.objectives import denoising_loss
from goca.models.specs import WEIGHTS
from goca.storage.json_reader import read_json

app = typer.Typer(help=__doc__, no_args_is_help=True)
Run = Annotated[Path, typer.Option(help="Folder for checkpoints, snapshots and logs.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Bfloat16 = Annotated[
    bool, typer.Option(help="Multiply in bfloat16: about twice as fast where the chip has matrix units.")
]
BATCH = 32
CHECKPOINT_EVERY = 100


def trapezoid(step: int, steps: int, warmup: int = 50, decay: float = 0.4) -> float:
    """Factor on the learning rate: up in ``warmup`` steps, flat, then linearly down over the last share ``decay``."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


class Optimisers:
    """Muon for the matrices and kernels of the repeated blocks, AdamW for embeddings, norms, biases, first and last
    layers.

    Args:
        modules: what is trained.
        steps: length of the training, for the learning rates' schedule.
        decay: share of the training over which they fall to zero.
        bfloat16: let Muon iterate in bfloat16.
    """

    def __init__(self, modules: Iterable[nn.Module], steps: int, decay: float = 0.4, bfloat16: bool = False) -> None:
        hidden, self.rest = split_parameters(modules)
        self.optimizers = [
            Muon(hidden, lr=0.01, dtype=torch.bfloat16 if bfloat16 else torch.float32),
            torch.optim.AdamW(self.rest, lr=1e-3, betas=(0.9, 0.99)),
        ]
        self.peaks = [each.param_groups[0]["lr"] for each in self.optimizers]
        self.rate = partial(trapezoid, steps=steps, decay=decay)
        self.step = 0

    def descend(self, loss: Tensor) -> None:
        """One step of every optimizer along the gradient of ``loss``."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.rest, 1.0)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * self.rate(self.step)
            optimizer.step()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of both optimizers."""
        return {"optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Go on at ``step``; the learning rates are those of the schedule there, whatever its length was before."""
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.step = step


def save_weights(path: Path, modules: dict[str, nn.Module]) -> None:
    """Write the weights of several modules into one float16 safetensors file, names prefixed by the module's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{key}": value.half().contiguous()
        for name, m in modules.items()
        for key, value in m.state_dict().items()
    }
    save_file(tensors, path)


def load_weights(path: Path, modules: dict[str, nn.Module]) -> None:
    """Read what :func:`save_weights` wrote back into the same modules."""
    tensors = load_file(path)
    for name, module in modules.items():
        module.load_state_dict(
            {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        )


def write_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Replace the checkpoint in one move, so that an interruption never leaves half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


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
            _log(run / "vae" / "log.jsonl", {"step": step, "loss": loss.item(), "l1": F.l1_loss(y, x).item()})
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


def split_parameters(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels of the repeated blocks for Muon; embeddings, norms, biases, first and last layers for
    AdamW."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            inside = "block" in name and parameter.ndim >= 2 and "scale_shift" not in name and "relative" not in name
            (hidden if inside else rest).append(parameter)
    return hidden, rest


@torch.no_grad()
def update_average(averages: Any, current: Any, count: Tensor | int) -> None:
    """Exponential average over about the last 100 steps, less while there are few, so that the initial weights fade
    quickly."""
    share = max(0.01, 9 / (10 + int(count)))
    torch._foreach_lerp_(averages, current, share)


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
    if kind not in arch.DENOISERS:
        raise typer.BadParameter(f"unknown denoiser {kind!r}; choose one of {', '.join(arch.DENOISERS)}")
    torch.manual_seed(0)
    tokenizers, model = arch.build_tokenizers(kind), arch.build_model(kind).to(device).train()
    denoiser: Any = model[arch.DENOISERS[kind]]
    if device == "cpu" and kind != "mmdit":  # the fused kernel's backward pass takes longer than all else together
        denoiser.set_attn_processor(AttnProcessor())
    average = AveragedModel(model, multi_avg_fn=update_average)
    optimisers = Optimisers(model.values(), steps, bfloat16=bfloat16)
    latents, classes = load_latents(run)
    folder = run / kind
    checkpoint = folder / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        first = state["step"]
        optimisers.load_state_dict(state, first)
    forward: Callable[..., Any] = torch.compile(denoiser) if compile_model else denoiser
    started, window = time.monotonic(), []
    with Progress() as progress:
        task = progress.add_task(kind, total=steps, completed=first)
        for step in range(first, steps):
            rng = np.random.default_rng((7, step))
            chosen = rng.integers(len(latents), size=BATCH)
            captions = [write_caption(classes[i], rng) for i in chosen]
            clean = latents[torch.from_numpy(chosen)].float().to(device)
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step)).to(device)
            loss = denoising_loss(kind, model, tokenizers, forward, captions, clean, noise, rng, bfloat16)
            optimisers.descend(loss)
            average.update_parameters(model)
            window.append(loss.item())
            progress.advance(task)
            done = step + 1
            if done % 50 == 0:
                rate = (done - first) * BATCH / (time.monotonic() - started)
                _log(
                    folder / "log.jsonl", {"samples": done * BATCH, "loss": float(np.mean(window)), "per_second": rate}
                )
                window.clear()
            if done % snapshot_every == 0 or done == steps:
                parts = dict(average.module.named_children())
                save_weights(folder / "snapshots" / f"{done * BATCH:07d}.safetensors", parts)
            if done % CHECKPOINT_EVERY == 0 or done == steps:
                weights = {"model": model.state_dict(), "average": average.state_dict()}
                write_checkpoint(checkpoint, {**weights, **optimisers.state_dict(), "step": done})


def _log(path: Path, entry: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


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
    vae = AutoencoderKL.from_pretrained(weights / "scenes-dit" / "vae")
    save_weights(run / "vae" / "vae.safetensors", {"vae": vae})
    (run / "vae" / "vae.json").write_text(json.dumps({"scaling_factor": vae.config.scaling_factor}))


if __name__ == "__main__":
    app()
