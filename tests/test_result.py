"""What a segmentation offers, and that it is saved whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from goca.result import Segmentation


def segmentation(
    width: int = 90, height: int = 60, classes: tuple[str, ...] = ("cat", "fire engine", "background")
) -> Segmentation:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(classes), (height, width))
    maps = rng.uniform(0, 1, (len(classes), 6, 8)).astype(np.float32)
    return Segmentation(Image.new("RGB", (width, height), "white"), classes, labels, maps, ("a note",))


def test_scores_are_the_maps_at_the_images_size() -> None:
    result = segmentation()
    assert result.scores.shape == (3, 60, 90) and result.scores.dtype == np.float32
    assert result.scores.min() >= 0 and result.scores.max() <= 1
    assert result.scores is result.scores
    np.testing.assert_allclose(result.scores.mean((1, 2)), result.maps.mean((1, 2)), atol=0.05)
    np.testing.assert_allclose(result.scores[:, 0, 0], result.maps[:, 0, 0], atol=1e-6)


def test_one_pixel() -> None:
    result = segmentation(1, 1)
    assert result.scores.shape == (3, 1, 1)
    assert result.label_image().size == (1, 1)
    assert result.overlay().width >= 100


def test_areas_sum_to_one() -> None:
    result = segmentation()
    assert list(result.areas) == list(result.classes)
    assert sum(result.areas.values()) == pytest.approx(1)
    assert result.areas["cat"] == (result.labels == 0).mean()


def test_saved_files_hold_the_result(tmp_path: Path) -> None:
    result = segmentation()
    files = result.save(tmp_path / "new" / "out", "picture")
    assert sorted(path.name for path in files.values()) == sorted(
        path.name for path in (tmp_path / "new" / "out").iterdir()
    )
    assert files["heat fire engine"].name == "picture_heat_fire-engine.png"
    labels = Image.open(files["labels"])
    assert labels.mode == "P"
    np.testing.assert_array_equal(np.asarray(labels), result.labels)
    assert Image.open(files["heat cat"]).size == (90, 60)

    content = json.loads(files["json"].read_text(encoding="utf-8"))
    assert content["image"] == {"width": 90, "height": 60} and content["notes"] == ["a note"]
    assert [entry["name"] for entry in content["classes"]] == list(result.classes)
    for index, entry in enumerate(content["classes"]):
        assert entry["rle"]["size"] == [60, 90] and entry["index"] == index
        mask = coco_mask.decode(entry["rle"]).astype(bool)
        np.testing.assert_array_equal(mask, result.labels == index)
        assert entry["pixels"] == mask.sum() and entry["area"] == pytest.approx(mask.mean())
        palette = labels.convert("RGB").getpixel(tuple(int(n) for n in np.argwhere(mask)[0][::-1]))
        assert tuple(entry["colour"]) == palette


def test_saving_again_replaces_only_where_it_is_said(tmp_path: Path) -> None:
    segmentation().save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    segmentation(20, 20).save(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert Image.open(tmp_path / "image_labels.png").size == (20, 20)
    with pytest.raises(FileExistsError, match=r"image_labels.png exists already; replace it with --overwrite"):
        segmentation().save(tmp_path, "image")
    assert Image.open(tmp_path / "image_labels.png").size == (20, 20)
    assert segmentation().save(tmp_path)["labels"].name == "image-2_labels.png"
    assert segmentation().save(tmp_path)["json"].name == "image-3.json"


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to the folder .*file/out \(Not a directory\); choose another one"):
        segmentation().save(tmp_path / "file" / "out")


def test_nothing_is_left_of_a_save_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left on device"):
        segmentation().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_class_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown class 'dog'; choose one of cat, fire engine, background"):
        segmentation().heat_map("dog")


def test_pixels_below_a_margin_are_ignored() -> None:
    maps = np.array([[[0.9, 0.5, 0.3]], [[0.1, 0.4, 0.6]]], np.float32)
    image, labels = Image.new("RGB", (3, 1)), np.array([[0, 0, 1]])
    result = Segmentation(image, ("a", "b"), labels, maps)
    sure = result.ignore(0.25)
    assert sure.labels.tolist() == [[0, 255, 1]] and sure.ignored.tolist() == [[False, True, False]]
    assert result.labels.tolist() == [[0, 0, 1]] and not result.ignored.any()
    assert sure.areas == pytest.approx({"a": 1 / 3, "b": 1 / 3}) and sure.to_dict()["ignored"] == pytest.approx(1 / 3)
    assert np.allclose(sure.margin, result.margin) and np.allclose(sure.margin, [[0.8, 0.1, 0.3]])
    assert sure.confidence == pytest.approx({"a": 0.8, "b": 0.3})
    assert not (sure.masks & sure.ignored).any()
    assert result.ignore(0.0).labels.tolist() == labels.tolist()
    everything = result.ignore(1.0)
    assert everything.ignored.all() and list(everything) == [] and everything.confidence == {"a": 0, "b": 0}
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="ignore_below is a finite number from 0 to 1, not"):
            result.ignore(wrong)


def test_parts_must_fit_each_other() -> None:
    image, labels, maps = Image.new("RGB", (3, 2)), np.zeros((2, 3), np.int64), np.zeros((1, 4, 4), np.float32)
    Segmentation(image, ("a",), labels, maps)
    with pytest.raises(ValueError, match="do not fit an image of 2 x 3"):
        Segmentation(image, ("a",), labels.T.copy(), maps)
    with pytest.raises(ValueError, match="1 maps do not fit 2 classes"):
        Segmentation(image, ("a", "b"), labels, maps)
    with pytest.raises(ValueError, match="labels from 1 to 1 do not fit 1 classes"):
        Segmentation(image, ("a",), labels + 1, maps)


def test_segments_are_the_classes_with_pixels_but_for_the_background() -> None:
    result = segmentation()
    segments = list(result)
    assert [segment.name for segment in segments] == [
        name for name, share in result.areas.items() if share and name != "background"
    ]
    for segment in segments:
        left, top, right, bottom = segment.box
        assert segment.area == segment.mask.sum() == segment.mask[top:bottom, left:right].sum()
        assert np.array_equal(segment.mask, result.masks[segment.index])
        assert result.boxes[segment.name] == segment.box
        assert sum(polygon.area for polygon in result.polygons()[segment.name]) == segment.area
        assert segment.confidence == pytest.approx(result.margin[segment.mask].mean())


def test_margin_is_the_lead_over_the_next_class() -> None:
    maps = np.array([[[0.9]], [[0.2]], [[0.5]]], dtype=np.float32)
    result = Segmentation(Image.new("RGB", (2, 1)), ("cat", "dog", "sky"), np.array([[0, 2]]), maps)
    assert np.allclose(result.margin, [[0.4, 0.0]])  # the second pixel's class is behind
    alone = Segmentation(Image.new("RGB", (1, 1)), ("cat",), np.array([[0]]), maps[:1])
    assert np.allclose(alone.margin, 0.9)


def test_a_result_shows_itself_in_short() -> None:
    result = segmentation()
    assert repr(result).startswith("Segmentation(") and len(repr(result)) < 200 and "array" not in repr(result)
    noted = Segmentation(
        Image.new("RGB", (4, 4)), ("<b>",), np.zeros((4, 4), int), np.ones((1, 2, 2), np.float32), ("<i>",)
    )
    html = noted._repr_html_()
    assert html.startswith("<iframe sandbox=") and html.count("<") == 2
    assert "data:image/jpeg;base64," in html
