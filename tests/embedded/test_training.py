"""Training of the embedded models: the parts, and two steps of each stage with a resume in between."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from goca.datasets.scenes import CLASS_NAMES
from goca.embedded import architectures as arch
from goca.embedded import objectives, train
from goca.embedded.data import write_caption
from goca.embedded.export import list_snapshots, load_snapshot
from goca.embedded.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices, steps=10))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_muon_solves_a_least_squares_problem_with_a_matrix_and_a_kernel() -> None:
    torch.manual_seed(0)
    matrix, kernel = torch.nn.Parameter(torch.zeros(4, 6)), torch.nn.Parameter(torch.zeros(4, 3, 2, 2))
    target, kernel_target = torch.randn(4, 6), torch.randn(4, 3, 2, 2)
    optimizer = Muon([matrix, kernel], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (matrix - target).square().sum() + (kernel - kernel_target).square().sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


@pytest.mark.parametrize("build", [arch.build_t5_tokenizer, arch.build_clip_tokenizer])
def test_tokenizers_know_every_word_and_no_other(build, tmp_path: Path) -> None:
    tokenizer = build()
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    pieces = {name: len(again(name, add_special_tokens=False).input_ids) for name in CLASS_NAMES}
    split = {name for name, count in pieces.items() if count != len(name.split())}
    assert split == ({"umbrella"} if build is arch.build_clip_tokenizer else set())
    assert again("carpet").input_ids != again("car").input_ids
    assert again.model_max_length == arch.TEXT_LENGTH


def test_captions_name_classes_of_the_scene_only() -> None:
    rng = np.random.default_rng(0)
    captions = [write_caption((0, 4, 10), rng) for _ in range(400)]
    words = {word for caption in captions for word in caption.replace(",", " ").split()}
    assert words == {CLASS_NAMES[0], CLASS_NAMES[4], CLASS_NAMES[10], "a", "and"}
    assert 0.03 < captions.count("") / 400 < 0.15


def test_noise_levels_are_mostly_high_and_cover_the_schedule() -> None:
    alphas = torch.linspace(0.999, 0.005, 1000)
    levels = objectives.noise_levels(np.random.default_rng(0), 4000, alphas)
    signal = alphas[levels] / (1 - alphas[levels])
    assert signal.log().median() < -1.0
    assert levels.min() < 200 and levels.max() > 900


@pytest.mark.slow
@pytest.mark.parametrize("kind", arch.DENOISERS)
def test_training_resumes_where_it_stopped(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps at once, and one step plus one after a restart, end with the same weights."""
    monkeypatch.setattr(train, "BATCH", 2)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 1)
    generator = torch.Generator().manual_seed(0)
    latents = {"latents": torch.randn(4, 4, 8, 8, generator=generator).half(), "classes": [(0, 4, 10)] * 4}
    ends = []
    for name, schedule in (("whole", [2]), ("halves", [1, 2])):
        run = tmp_path / name
        train.write_checkpoint(run / "latents.pt", latents)
        for stop in schedule:
            with monkeypatch.context() as patch:
                patch.setattr(train, "trapezoid", lambda step, steps, decay: 1.0)
                train.train_denoiser(kind, run, stop, 1, "cpu", compile_model=False, bfloat16=False)
        ends.append(train.load_file(list_snapshots(kind, run)[-1]))
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("dit", "PixArtAlphaPipeline"), ("unet", "StableDiffusionPipeline"), ("mmdit", "FluxPipeline")],
)
def test_a_run_becomes_a_stock_pipeline(kind: str, name: str, tmp_path: Path) -> None:
    train.save_weights(tmp_path / "vae" / "vae.safetensors", {"vae": arch.build_vae()})
    (tmp_path / "vae" / "vae.json").write_text(json.dumps({"scaling_factor": 0.5}))
    train.save_weights(tmp_path / kind / "snapshots" / "0000064.safetensors", dict(arch.build_model(kind).items()))
    pipeline = load_snapshot(kind, tmp_path, list_snapshots(kind, tmp_path)[0])
    assert type(pipeline).__name__ == name
    assert pipeline.vae.config.scaling_factor == 0.5


def test_training_goes_on_from_the_shipped_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train.adopt(run, train.WEIGHTS)
    for kind in arch.DENOISERS:
        state = torch.load(run / kind / "checkpoint.pt", weights_only=True)
        seen = json.loads((train.WEIGHTS / f"scenes-{kind}" / "training.json").read_text())["samples_seen"]
        assert state["step"] == seen // train.BATCH > 0
    assert train.load_vae(run, "cpu").config.scaling_factor != 1
    with pytest.raises(typer.BadParameter, match="is not empty; name a new folder"):
        train.adopt(run, train.WEIGHTS)
