"""Measurements of the scaling study, on denoisers with random weights."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from goca.datasets.scenes import CLASS_NAMES
from goca.embedded import architectures as arch
from goca.embedded import checkpoints, measure, objectives, rungs
from goca.evaluation.generation.scenes import SceneMeasures
from goca.evaluation.generation.statistics import Reference
from goca.evaluation.metrics import mean_iou
from goca.models.specs import MODELS

SIZES = {"dit": {"blocks": 4, "heads": 1}, "unet": {"width": 8}, "mmdit": {"double": 1, "single": 3, "heads": 1}}


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest) -> Iterator[tuple]:
    kind = request.param
    yield kind, arch.assemble(kind, arch.build_vae(), arch.build_model(kind, **SIZES[kind]).eval())


def test_manual_layers_are_those_published_for_stable_diffusion() -> None:
    counts = {"down_blocks.0": 2, "down_blocks.1": 2, "down_blocks.2": 2, "mid_block": 1}
    counts |= {"up_blocks.1": 3, "up_blocks.2": 3, "up_blocks.3": 3}
    layers = [f"{stage}.attentions.{index}.transformer_blocks.0" for stage in counts for index in range(counts[stage])]
    assert measure.middle_half(layers) == MODELS["sd15"].manual_layers


def test_no_method_but_manual_and_single_layer_picks_layers(model: tuple) -> None:
    kind, pipeline = model
    segmenter = measure.study_segmenter(f"{kind}-1m", pipeline)
    assert segmenter.model.spec.cross_layers is None
    assert segmenter.model.spec.output_grid == {"dit": 16, "unet": 32, "mmdit": 16}[kind]
    sets = {name: method.layer_set for name, method in measure.methods().items()}
    assert {name for name, layers in sets.items() if layers not in ("all", "selected")} == {"manual", "single-layer"}


def test_segmentation_can_be_computed_from_the_numbers_per_scene(model: tuple) -> None:
    kind, pipeline = model
    found = measure.measure_segmentation(measure.study_segmenter(f"{kind}-1m", pipeline), 2)
    assert found.keys() == {"series", "scenes", "miou", "true", "counts"}
    for name, expected in found["miou"].items():
        totals = np.zeros((len(CLASS_NAMES), 2), np.int64)
        for true, counts in zip(found["true"], found["counts"][name], strict=True):
            assert sum(true.values()) == sum(predicted for _, predicted in counts) == 128 * 128
            for (word, pixels), (common, predicted) in zip(true.items(), counts, strict=True):
                totals[CLASS_NAMES.index(word)] += (common, pixels + predicted - common)
        assert abs(mean_iou(totals, "standard") - expected) <= 1e-5


def test_denoising_error_of_a_model_that_predicts_zero_is_the_latents_or_the_noises(model: tuple) -> None:
    """Fresh denoisers return zeros: the clean latent itself for dit and unet, a velocity for mmdit."""
    kind, pipeline = model
    found = measure.measure_denoising(kind, pipeline, 2)
    assert list(found["errors"]) == [str(level) for level in measure.FLOW_LEVELS]
    first, *others = (np.array(errors) for errors in found["errors"].values())
    for level, errors in zip(measure.FLOW_LEVELS[1:], others, strict=True):
        growth = (level / measure.FLOW_LEVELS[0]) ** 2 if kind == "mmdit" else 1
        np.testing.assert_allclose(errors, first * growth, rtol=0.01)


def test_matched_timesteps_have_the_ratio_of_the_flow() -> None:
    flow = np.array(measure.FLOW_LEVELS)
    alphas = objectives.ALPHAS[objectives.matching_timesteps(flow, objectives.ALPHAS)].numpy()
    np.testing.assert_allclose(np.sqrt((1 - alphas) / alphas), flow / (1 - flow), rtol=0.05)


def test_generated_images_are_measured_one_by_one(model: tuple, tmp_path: Path) -> None:
    kind, pipeline = model
    measures = SceneMeasures(tmp_path, 2, measure.PROMPT_SERIES)
    measures.reference = Reference(np.random.default_rng(0).normal(size=(40, 192)))
    found = measure.measure_generation(kind, pipeline, measures)
    assert len(found["recalled"]) == len(found["components"]) == found["images"] == 2
    again = measures.reference.mean + np.array(found["components"]) @ measures.reference.axes
    distance = measures.reference.distances(again, np.ones((1, 2), np.int64))[0]
    assert abs(distance / found["frechet"]["value"] - 1) < 1e-2
    assert found["object_recall"]["value"] == pytest.approx(np.mean(found["recalled"]), abs=1e-4)


def test_command_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rungs.rung_folder(tmp_path, "dit-1m", 0)
    with pytest.raises(
        typer.BadParameter, match=r"holds no snapshot; run `python -m goca\.embedded\.train rung dit-1m`"
    ):
        measure.main("dit-1m", tmp_path, tmp_path / "out")
    rungs.keep_configuration(folder, {"rung": "dit-1m"})
    for samples in (32, 64):
        checkpoints.save_weights(folder / "snapshots" / f"{samples:07d}.safetensors", {"part": arch.build_vae()})
    parts = {"segmentation": {"scenes": 200}, "generation": {"images": 200}}
    monkeypatch.setattr(measure, "measure_snapshot", lambda *_: parts)
    monkeypatch.setattr(measure, "SceneMeasures", lambda *_: None)
    (tmp_path / "out").mkdir()
    assert not (tmp_path / "vae").exists()
    kept = tmp_path / "out" / "dit-1m-seed0-0000032.json"
    earlier = json.dumps({"configuration": {"rung": "dit-1m"}, "samples": 32, **parts})
    kept.write_text(earlier)
    measure.main("dit-1m", tmp_path, tmp_path / "out")
    assert kept.read_text() == earlier
    assert (tmp_path / "vae" / "vae.safetensors").exists()
    written = json.loads((tmp_path / "out" / "dit-1m-seed0-0000064.json").read_text())
    assert written == {"configuration": {"rung": "dit-1m"}, "samples": 64, **parts}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"configuration": {"rung": "unet-1m"}}, "configuration"),
        ({"samples": 64}, "samples"),
        ({"segmentation": {"scenes": 20}}, "scenes"),
        ({"generation": {"images": 2}}, "images"),
    ],
)
def test_measurements_of_something_else_are_not_taken(change: dict, named: str, tmp_path: Path) -> None:
    head = {"configuration": {"rung": "dit-1m"}, "samples": 32}
    measured = {**head, "segmentation": {"scenes": 200}, "generation": {"images": 200}}
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(measured))
    measure.check_measured(path, head, 200, 200)
    path.write_text(json.dumps({**measured, **change}))
    with pytest.raises(typer.BadParameter, match=f"was measured with another {named};"):
        measure.check_measured(path, head, 200, 200)
