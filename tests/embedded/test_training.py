"""Training of the embedded models: the parts, and two steps of each stage with a resume in between."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from goca.datasets.scenes import CLASS_NAMES
from goca.embedded import architectures as arch
from goca.embedded import checkpoints, denoiser, objectives, optimisers, rungs, train
from goca.embedded.data import write_caption
from goca.embedded.export import check_autoencoder, list_snapshots, load_snapshot
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
    levels = objectives.matching_timesteps(objectives.flow_levels(np.random.default_rng(0), 4000), alphas)
    signal = alphas[levels] / (1 - alphas[levels])
    assert signal.log().median() < -1.0
    assert levels.min() < 200 and levels.max() > 900


def write_latents(run: Path, count: int = 4) -> None:
    """Random latents of 8 x 8 in a run folder."""
    latents = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    checkpoints.write_checkpoint(run / "latents.pt", {"latents": latents, "classes": [(0, 4, 10)] * count})


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two, a checkpoint and a log entry after every step, and constant learning rates."""
    monkeypatch.setattr(denoiser, "BATCH", 2)
    monkeypatch.setattr(denoiser, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(denoiser, "LOG_EVERY", 1)
    monkeypatch.setattr(optimisers, "trapezoid", lambda step, steps, decay: 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("kind", arch.DENOISERS)
def test_training_resumes_where_it_stopped(kind: str, tmp_path: Path) -> None:
    """Two steps at once, and one step plus one after a restart, end with the same weights and the same log."""
    ends, logs = [], []
    for name, schedule in (("whole", [2]), ("halves", [1, 2])):
        run = tmp_path / name
        write_latents(run)
        for stop in schedule:
            train.train_denoiser(kind, run, stop, 1, "cpu", compile_model=False, bfloat16=False)
        ends.append(checkpoints.load_file(list_snapshots(kind, run)[-1]))
        logs.append([json.loads(line)["samples"] for line in (run / kind / "log.jsonl").read_text().splitlines()])
    assert logs[0] == logs[1] == [2, 4]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=2e-3)


@pytest.mark.usefixtures("small_steps")
def test_seed_decides_the_weights_and_snapshots_lie_where_the_plan_says(tmp_path: Path) -> None:
    write_latents(tmp_path)
    ends = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        plan = denoiser.Training("dit", 3, (1,), {"blocks": 1, "heads": 1}, seed)
        denoiser.train(plan, tmp_path, tmp_path / folder)
        names = [path.stem for path in sorted((tmp_path / folder / "snapshots").iterdir())]
        assert names == ["0000002", "0000006"]
        ends.append(checkpoints.load_file(tmp_path / folder / "snapshots" / "0000006.safetensors"))
    first, second, other = (each["transformer.pos_embed.proj.weight"] for each in ends)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_log_loses_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for samples in (2, 4, 6):
        checkpoints.append_log(log, {"samples": samples})
    denoiser.drop_later_entries(log, 4)
    assert [json.loads(line)["samples"] for line in log.read_text().splitlines()] == [2, 4]


@pytest.mark.parametrize("name", rungs.RUNGS)
def test_rung_has_the_size_that_its_name_says(name: str) -> None:
    family, size = name.split("-")
    assert rungs.RUNGS[name].kind == family
    assert abs(rungs.RUNGS[name].parameters() / 1e6 / int(size.removesuffix("m")) - 1) < 0.2


def test_rung_refuses_other_latents_and_other_settings(tmp_path: Path) -> None:
    write_latents(tmp_path)
    (tmp_path / "vae").mkdir()
    with pytest.raises(typer.BadParameter, match="holds 4 scenes, not 16000; name another folder"):
        train.train_rung("dit-1m", tmp_path)
    with pytest.raises(typer.BadParameter, match=r"unknown rung 'dit-2m' .*choose one of dit-1m"):
        train.train_rung("dit-2m", tmp_path)
    rungs.keep_configuration(tmp_path / "run", {"seed": 0})
    rungs.keep_configuration(tmp_path / "run", {"seed": 0})
    with pytest.raises(ValueError, match="holds a training with other settings"):
        rungs.keep_configuration(tmp_path / "run", {"seed": 1})


@pytest.mark.parametrize(
    ("kind", "name"),
    [("dit", "PixArtAlphaPipeline"), ("unet", "StableDiffusionPipeline"), ("mmdit", "FluxPipeline")],
)
def test_a_run_becomes_a_stock_pipeline(kind: str, name: str, tmp_path: Path) -> None:
    checkpoints.save_weights(tmp_path / "vae" / "vae.safetensors", {"vae": arch.build_vae()})
    (tmp_path / "vae" / "vae.json").write_text(json.dumps({"scaling_factor": 0.5}))
    checkpoints.save_weights(
        tmp_path / kind / "snapshots" / "0000064.safetensors", dict(arch.build_model(kind).items())
    )
    pipeline = load_snapshot(kind, tmp_path, list_snapshots(kind, tmp_path)[0])
    assert type(pipeline).__name__ == name
    assert pipeline.vae.config.scaling_factor == 0.5


def test_the_shipped_pipelines_share_one_autoencoder(tmp_path: Path) -> None:
    assert [path.parent.name for path in train.WEIGHTS.rglob("vae/*.safetensors")] == ["vae"]
    with pytest.raises(typer.BadParameter, match="have another autoencoder than this run"):
        check_autoencoder(arch.build_vae().half())
    train.adopt_vae(tmp_path)
    check_autoencoder(train.load_vae(tmp_path, "cpu").half())


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
