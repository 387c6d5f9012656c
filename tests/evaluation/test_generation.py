"""The judge, the statistics and the table of guidance."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from typer.testing import CliRunner, Result

from goca.cli import app
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.embedded import supervised
from goca.evaluation.generation import experiment, scenes, table
from goca.evaluation.generation.scene_parser import SceneParser
from goca.evaluation.generation.statistics import Reference, draw_counts, frechet_distance, interval
from goca.storage.journal import Journal

SCENES = [make_scene(31, index) for index in range(12)]


@pytest.fixture(scope="module")
def judge() -> SceneParser:
    return SceneParser.load()


def test_the_judge_finds_what_is_in_real_scenes(judge: SceneParser) -> None:
    verdicts = judge([scene.image for scene in SCENES])
    found = [prediction.found(CLASS_NAMES) for prediction in verdicts]
    named = sum(len(scene.classes) for scene in SCENES)
    right = sum(len({*scene.classes} & {*names}) for scene, names in zip(SCENES, found, strict=True))
    assert right >= 0.95 * named and sum(map(len, found)) <= 1.1 * named
    for scene, prediction in zip(SCENES, verdicts, strict=True):
        target = np.array([CLASS_NAMES.index(name) for name in scene.classes])
        assert (target[prediction.labels(scene.classes)] == scene.labels).mean() > 0.9
    alone = judge([SCENES[3].image])[0]
    np.testing.assert_allclose(alone.features, verdicts[3].features, atol=1e-4)
    assert not judge.network.mid_block._forward_hooks
    grey = judge([Image.new("RGB", (128, 128), "grey")])[0]
    assert len(grey.found(SCENES[0].classes)) < len(SCENES[0].classes)


def test_one_percent_of_the_pixels_is_found(judge: SceneParser) -> None:
    prediction = judge([SCENES[0].image])[0]
    prediction.scores[:] = 0
    prediction.scores[0] = 1
    prediction.scores[5, 0, :] = prediction.scores[6].view(-1)[-164:] = 2  # 128 and 164 of 16,384
    assert prediction.found(CLASS_NAMES) == [CLASS_NAMES[0], CLASS_NAMES[6]]


def test_the_shipped_judge_is_measured_as_the_trained_one_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    supervised.main(limit=4)
    assert float(capsys.readouterr().out.split("mIoU")[1]) > 0.8
    supervised.build_network().half().save_pretrained(tmp_path)
    supervised.main(weights=tmp_path, limit=2)
    assert float(capsys.readouterr().out.split("mIoU")[1]) < 0.5


def test_where_the_judge_is_when_the_wheel_leaves_it_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no part of the wheel, so copy the folder"):
        SceneParser.load(tmp_path)


def brute_force(features: np.ndarray, reference: np.ndarray) -> float:
    """The textbook's formula."""
    covariance, other = np.cov(features.T), np.cov(reference.T)
    distance = ((features.mean(axis=0) - reference.mean(axis=0)) ** 2).sum()
    return float(distance + np.trace(covariance + other - 2 * sqrtm(covariance @ other).real))


def correlated(rng: np.random.Generator, samples: int, width: int = 6) -> np.ndarray:
    return rng.normal(size=(samples, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_the_frechet_distance_is_the_brute_force_one() -> None:
    rng = np.random.default_rng(0)
    real, drawn = correlated(rng, 80), correlated(rng, 40)
    counts = draw_counts(40, resamples=3)
    expected = [brute_force(np.repeat(drawn, times, axis=0), real) for times in counts]
    np.testing.assert_allclose(Reference(real, 6).distances(drawn, counts), expected, rtol=1e-6)
    assert expected[0] > 1
    assert Reference(real, 6).distances(real, np.ones((1, 80), np.int64))[0] == pytest.approx(0, abs=1e-9)
    few = Reference(real, 6).distances(drawn[:2], np.ones((1, 2), np.int64))[0]
    assert few == pytest.approx(brute_force(drawn[:2], real), rel=1e-3)


def test_fewer_components_are_a_lower_bound() -> None:
    rng = np.random.default_rng(1)
    real, drawn, once = correlated(rng, 80), correlated(rng, 40), np.ones((1, 40), np.int64)
    whole, part = Reference(real, 6), Reference(real, 3)
    assert whole.explained == pytest.approx(1) and 0.5 < part.explained < 1
    axes = part.axes.T
    assert part.distances(drawn, once)[0] == pytest.approx(brute_force(drawn @ axes, real @ axes))
    assert part.distances(drawn, once)[0] < whole.distances(drawn, once)[0]


def test_gaussians_that_are_known() -> None:
    means, covariances = np.array([[0.0, 0.0], [3.0, 4.0]]), np.stack([np.eye(2), 4 * np.eye(2)])
    found = frechet_distance(means, covariances, np.zeros(2), np.eye(2))
    np.testing.assert_allclose(found, [0, 25 + 2 * (2 - 1) ** 2], atol=1e-12)


def test_intervals_of_a_mean_are_the_textbooks() -> None:
    values = np.random.default_rng(2).normal(5, 2, 400)
    counts = draw_counts(400)
    assert (counts.sum(axis=1) == 400).all() and (counts[0] == 1).all()
    found = interval(counts @ values / 400)
    half = 1.96 * values.std(ddof=1) / 20
    assert found["value"] == pytest.approx(values.mean())
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.12)
    assert found["value"] - found["low"] == pytest.approx(half, rel=0.12)
    paired = interval(counts @ (values + 0.5) / 400 - counts @ values / 400)
    assert list(paired.values()) == pytest.approx([0.5] * 3)


def test_intervals_of_distances_hold_what_is_seen_when_images_are_drawn_again() -> None:
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(4, 4))
    real = rng.normal(size=(2000, 4)) @ mixing
    reference, counts = Reference(real, 4), draw_counts(60, resamples=200)
    sets = [rng.normal(size=(60, 4)) @ mixing + 0.8 for _ in range(60)]
    values = [reference.distances(each, counts[:1])[0] for each in sets]
    intervals = [interval(reference.distances(each, counts)) for each in sets]
    middle = np.mean(values)
    assert sum(each["low"] <= middle <= each["high"] for each in intervals) >= 50


def test_masks_are_compared_over_all_images() -> None:
    entries = [
        {"named": ["cat", "sky"], "pixels": [[3, 1], [0, 4]]},
        {"named": ["sky", "dog"], "pixels": [[5, 1], [2, 0]]},
    ]
    counts = np.array([[1, 1], [2, 0]])
    expected = [np.mean([3 / 4, 9 / 13, 0 / 3]), np.mean([3 / 4, 4 / 5])]
    np.testing.assert_allclose(scenes.mask_miou(entries, counts), expected)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenes, "REFERENCE", 12)
    monkeypatch.setattr(experiment, "draw_counts", partial(draw_counts, resamples=50))
    fixed = ("--model", "scenes-unet", "--device", "cpu", "--steps", "2", "--prompts", "2", "--out", "d")
    return lambda *words: CliRunner().invoke(app, ["guidance-table", *fixed, *map(str, words)])


def refusal(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("goca: "))


@pytest.mark.slow
def test_a_table_goes_on_where_it_was_killed(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--scales", "4,7.5", "--guidance", "cfg,goca")
    append, written = Journal.append, []

    def stop(self: Journal, entries: Any) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(entries)
        append(self, entries)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", stop)
        assert run(*settings).exit_code != 0
    lines = (tmp_path / "d/records.jsonl").read_bytes()
    assert lines.count(b"\n") == 6 and not (tmp_path / "d/results.json").exists()

    answer = json.loads(run(*settings, "--json").stdout)
    assert (tmp_path / "d/records.jsonl").read_bytes().startswith(lines)
    assert (tmp_path / "d/records.jsonl").read_bytes().count(b"\n") == 9
    assert len(list((tmp_path / "d/images").rglob("*.png"))) == 8
    assert answer == json.loads((tmp_path / "d/results.json").read_text())
    assert [(each["guidance"], each["scale"]) for each in answer["results"]] == [
        ("cfg", 4.0),
        ("goca", 4.0),
        ("cfg", 7.5),
        ("goca", 7.5),
    ]
    plain, guided = answer["results"][:2]
    assert plain["difference"] is None
    for key in ("frechet", "object_recall", "mask_miou"):
        assert plain[key]["low"] <= plain[key]["value"] <= plain[key]["high"]
        assert guided["difference"][key]["value"] == pytest.approx(guided[key]["value"] - plain[key]["value"])
    assert guided["difference"]["frechet"]["value"] != 0
    assert answer["real"]["object_recall"]["value"] == 1 and answer["real"]["mask_miou"]["value"] > 0.8
    written_table = (tmp_path / "d/table.md").read_text()
    assert table.show({"value": -0.0004, "low": -0.02, "high": -0.0}, "found") == "0.000 [-0.020, 0.000]"
    cells = (plain["frechet"], guided["frechet"], guided["difference"]["frechet"])
    line = " | ".join(table.show(each, "frechet") for each in cells)
    assert "| scale | cfg | goca | goca - cfg |" in written_table and f"| 4 | {line} |" in written_table

    shown = run(*settings, "--out", "e")
    assert shown.exit_code == 0 and "object recall; real scenes" in shown.stdout
    assert answer == json.loads((tmp_path / "e/results.json").read_text())
    assert "was made with other settings: steps was 2 and is now 3" in refusal(run(*settings, "--steps", 3))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--scales", "2,much"), "the scales '2,much' are no numbers separated by commas, like 2,3,5,7.5,10"),
        (("--scales", "1"), "guidance needs a scale above 1, not 1"),
        (("--guidance", "pag"), "unknown guidance 'pag'; choose one of cfg, s-cfg, goca"),
        (("--guidance", ","), "name at least one guidance, for example --guidance cfg,goca"),
        (("--photos", "."), "scenes-unet draws scenes, which are judged without --photos; leave it out"),
    ],
)
def test_refusals(run: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(run(*words))
    assert list(tmp_path.iterdir()) == []


def test_one_prompt_has_no_covariance(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a distance between sets of images needs at least 2 prompts, not 1"):
        scenes.SceneMeasures(tmp_path, 1, 31)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    for index, scene in enumerate(SCENES[:3]):
        scene.image.save(root / "images" / f"{index}.png")
    captions = {f"{index}.png": {"caption": "cat, grass"} for index in range(3)}
    (root / "captions.json").write_text(json.dumps(captions))
    return root


def test_models_of_photographs_need_photographs_and_torchmetrics(
    run: Callable[..., Result], photos: Path, unet_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ("--model", unet_folder)
    assert "give a folder with images/ and captions.json with --photos" in refusal(run(*model))
    assert "holds 3 photographs in images/ and 3 captions in captions.json, too few for 9 prompts" in refusal(
        run(*model, "--photos", photos, "--prompts", 9)
    )
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    sentence = "FID and CLIP score need torchmetrics, torch-fidelity and the weights of Inception and CLIP: run pip"
    assert sentence in refusal(run(*model, "--photos", photos))
    assert not Path("d").exists()


def test_photographs_are_measured_by_torchmetrics(
    run: Callable[..., Result], photos: Path, unet_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, tuple[int, ...]]] = []

    class Fid:
        real_features_num_samples = 0

        def __init__(self, reset_real_features: bool) -> None:
            assert reset_real_features is False

        def reset(self) -> None:
            seen.append((False, ()))

        def update(self, images: Any, real: bool) -> None:
            seen.append((real, tuple(images.shape)))
            self.real_features_num_samples += real

        def compute(self) -> float:
            return 12.5

    image, multimodal = ModuleType("torchmetrics.image.fid"), ModuleType("torchmetrics.multimodal.clip_score")
    image.FrechetInceptionDistance = Fid
    multimodal.CLIPScore = lambda: lambda pixels, text: float(pixels.float().mean()) + len(text)
    for name, module in (("image", image), ("multimodal", multimodal)):
        monkeypatch.setitem(sys.modules, f"torchmetrics.{name}", SimpleNamespace())
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "torchmetrics", ModuleType("torchmetrics"))
    words = ("--model", unet_folder, "--photos", photos, "--scales", 3, "--guidance", "cfg,goca", "--json")
    result = run(*words)
    answer = json.loads(result.stdout)
    plain, guided = answer["results"]
    assert plain["fid"] == {"value": 12.5, "low": None, "high": None} and answer["real"] is None
    assert plain["clip"]["low"] <= plain["clip"]["value"] <= plain["clip"]["high"]
    assert guided["difference"]["clip"]["value"] == pytest.approx(guided["clip"]["value"] - plain["clip"]["value"])
    assert [real for real, shape in seen if shape] == [True] * 3 + [False] * 4
    assert "| 3 | 12.50 | 12.50 | 0.00 |" in Path("d/table.md").read_text()
