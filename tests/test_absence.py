"""Classes that are not in the image: told by the model's error, left out of the prompt, and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import photo, tiny_model

from goca import GocaWarning, Segmenter, absence
from goca.datasets.scenes import make_scene
from goca.segment_many import segment_many


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(tiny_model("dit"))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gains that are found: 1 of present classes, -1 of a cat."""
    monkeypatch.setattr(
        absence,
        "gains",
        lambda segmenter, image, prompt, seed: {
            each.name: 1.0 if each.name != "cat" else -1.0 for each in prompt.classes
        },
    )


def test_gains_are_relative_rises_of_the_error(segmenter: Segmenter) -> None:
    image, prompt = photo(0), segmenter.prompt(["cat|kid", "sky"], background=["sea"])
    latents = segmenter.encode([image])
    backbone = segmenter.model.backbone

    def error(text: str) -> float:
        total = 0.0
        for seed in range(7, 7 + absence.NOISES):
            noisy = backbone.add_noise(latents, absence.TIMESTEP, [torch.Generator().manual_seed(seed)])
            predicted = backbone.denoise(noisy, absence.TIMESTEP, segmenter.encode_prompts([text]))
            clean = backbone.noise_level(absence.TIMESTEP, latents).clean(noisy, predicted)
            total += float((clean - latents).square().mean())
        return total

    whole = error("cat, kid, sky, sea")
    expected = {"cat": error("sky, sea") / whole - 1, "sky": error("cat, kid, sea") / whole - 1}
    assert absence.gains(segmenter, image, prompt, seed=7) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    (only,) = absence.gains(segmenter, image, segmenter.prompt(["cat"]), seed=7).values()
    assert only == pytest.approx(error("") / error("cat") - 1, rel=1e-3, abs=1e-5)


def test_absent_classes_are_left_out_and_said(segmenter: Segmenter, found: None) -> None:
    with pytest.warns(GocaWarning, match="'cat' was dropped where it is not"):
        result = segmenter(photo(0), ["cat|kitten", "sky", "dog"], drop_absent=True)
    alone = segmenter(photo(0), ["sky", "dog"])
    assert result.classes == ("sky", "dog") and result.dropped == {"cat": -1.0}
    assert np.array_equal(result.labels, alone.labels) and np.array_equal(result.maps, alone.maps)
    assert "; without cat)" in repr(result) and result.to_dict()["dropped"] == {"cat": -1.0}
    assert any("measured on the embedded models alone, not on tiny" in note for note in result.notes)
    assert segmenter(photo(0), ["sky", "dog"], drop_absent=True).dropped == {}


def test_where_nothing_is_there_the_likeliest_stays(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "gains", lambda *arguments: {"cat": -0.2, "sky": -0.1})
    result = segmenter(photo(0), ["cat", "sky"], drop_absent=True)
    assert result.classes == ("sky",) and result.dropped == {"cat": -0.2}
    assert any("only 'sky', the likeliest, was kept" in note for note in result.notes)


def test_captions_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out the caption, or drop_absent"):
        segmenter(photo(0), ["cat"], caption="a cat", drop_absent=True)
    photo(0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="leave out the caption, or drop_absent"):
        segment_many(segmenter, str(tmp_path / "a.png"), ["cat"], tmp_path / "o", caption="a cat", drop_absent=True)
    assert not (tmp_path / "o").exists()


def test_files_of_many_images_lack_the_class(segmenter: Segmenter, found: None, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        photo(0).save(tmp_path / name)
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    saved = segment_many(segmenter, images, ["cat", "sky", "dog"], tmp_path / "o", drop_absent=True, formats=["heat"])
    assert [list(each.areas) for each in saved.images] == [["sky", "dog"]] * 2
    assert sorted(saved.images[0].files) == ["heat dog", "heat sky"]
    with pytest.raises(ValueError, match="drop_absent"):
        segment_many(segmenter, images, ["cat", "sky", "dog"], tmp_path / "o", formats=["heat"], resume=True)


def test_an_embedded_model_tells_what_is_not_in_a_scene() -> None:
    scene = make_scene(4, 3)
    assert "elephant" not in scene.classes and "boat" not in scene.classes
    segmenter = Segmenter.from_pretrained("scenes-dit", device="cpu")
    gains = absence.gains(segmenter, scene.image, segmenter.prompt([*scene.classes, "elephant", "boat"]))
    absent = [gains.pop("elephant"), gains.pop("boat")]
    assert isinstance(scene.image, Image.Image) and max(absent) < min(gains.values())
