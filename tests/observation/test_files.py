"""Files of explanations: what is written is what was computed, and nothing is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from small import tiny_model

from goca import Segmenter
from goca.observation import Explanation
from goca.observation.observe import observe
from goca.types import CrossRecord, JointRecord, LayerRecord, OutputProjection

CLASSES = ["cat", "grass"]


def segmenter(family: str) -> Segmenter:
    return Segmenter(tiny_model(family))


def photo(width: int = 50, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return segmenter("dit").explain(photo(), CLASSES)


def read_record(arrays: dict[str, np.ndarray], layer: str) -> LayerRecord:
    """A record from the arrays of a file."""
    own = {
        name.rpartition("/")[2]: torch.from_numpy(each) for name, each in arrays.items() if name.startswith(f"{layer}/")
    }
    rows, columns = own.pop("grid").tolist()
    projection = own.pop("projection", None)
    scales = {name: float(own.pop(name)) for name in ("cross_scale", "self_scale") if name in own}
    kind = JointRecord if "image_key" in own else CrossRecord
    return kind(
        layer, (rows, columns), projection=None if projection is None else OutputProjection(projection), **own, **scales
    )


def test_npz_holds_the_whole_explanation(explanation: Explanation, tmp_path: Path) -> None:
    explanation.save_npz(tmp_path / "all.npz")
    loaded = Explanation.load_npz(tmp_path / "all.npz")
    assert loaded.to_dict() == explanation.to_dict()
    assert loaded.tokens == explanation.tokens and loaded.words == explanation.words
    for name in ("token_maps", "class_attention", "rescaled", "refined"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(explanation, name))
    for found, expected in zip(loaded.layers, explanation.layers, strict=True):
        assert (found.name, found.weight, found.grid) == (expected.name, expected.weight, expected.grid)
        for name in ("head_weights", "maps", "head_shares", "head_maps"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert loaded.image.tobytes() == explanation.image.tobytes()
    np.testing.assert_array_equal(loaded.result.labels, explanation.result.labels)
    assert loaded.at(3, 4).label == explanation.at(3, 4).label


def test_records_give_the_same_maps(family: str, tmp_path: Path) -> None:
    path = tmp_path / "records.npz"
    explanation = segmenter(family).explain(photo(), CLASSES, records=path)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert {name.rpartition("/")[0] for name in arrays} == {layer.name for layer in explanation.layers}
    for layer in explanation.layers:
        record = read_record(arrays, layer.name)
        cross, _ = reference.attention(record, torch.float64)
        maps = reference.head_maps(record, cross, str(explanation.settings["heads"]))
        expected = maps[:, list(explanation.text_tokens)].T.unflatten(1, record.grid)
        torch.testing.assert_close(torch.from_numpy(layer.maps[:-1]).double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 damaged"])
def test_a_damaged_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz is damaged or no \.npz file"):
        Explanation.load_npz(tmp_path / "bad.npz")


def test_an_npz_of_something_else_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", maps=np.zeros(3))
    with pytest.raises(ValueError, match="holds no explanation"):
        Explanation.load_npz(tmp_path / "other.npz")
    explanation.save_npz(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "rescaled"}
    np.savez(tmp_path / "part.npz", **arrays)
    with pytest.raises(ValueError, match="'rescaled' is missing"):
        Explanation.load_npz(tmp_path / "part.npz")


def test_saved_files(explanation: Explanation, tmp_path: Path) -> None:
    files = explanation.save(tmp_path / "new" / "out", "photo", at=[(3, 4)], layer=1, head=0)
    assert {path.name for path in files.values()} == {path.name for path in (tmp_path / "new" / "out").iterdir()}
    name = explanation.layers[1].name
    assert {"json", "npz", "words", "shares", "layers", "head weights", "stages", f"heads of {name}"} <= set(files)
    assert {"pixel 3,4", "word cat", f"word cat in {name} head 0"} <= set(files)
    for what, path in files.items():
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.size == (50, 30) if what.startswith("word ") else min(picture.size) > 60
    content = json.loads(files["json"].read_text())
    (pixel,) = content.pop("pixels")
    assert content == explanation.to_dict()
    assert pixel["label"] == explanation.at(3, 4).label
    assert pixel["tokens"] == explanation.at(3, 4).tokens.tolist()
    assert set(pixel["layers"]) == {layer.name for layer in explanation.layers}


def test_one_head_of_every_layer(explanation: Explanation, tmp_path: Path) -> None:
    assert "head 1" in explanation.save(tmp_path, head=1)


def test_files_of_an_earlier_run_are_refused(explanation: Explanation, tmp_path: Path) -> None:
    files = explanation.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((ValueError, OSError), match=r"image_explanation\.json.*exist"):
        explanation.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert explanation.save(tmp_path, overwrite=True) == files


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at": [(50, 0)]}, "outside the image"),
        ({"layer": "nope"}, "unknown aggregated layer 'nope'; choose one of transformer_blocks.0"),
        ({"layer": 0, "head": 3}, "has no head 3; choose one from 0 to 2"),
        ({"head": 3}, "has no head 3; choose one from 0 to 2"),
    ],
)
def test_wrong_requests_write_nothing(
    explanation: Explanation, wrong: dict[str, object], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        explanation.save(out, **wrong)  # type: ignore[arg-type]
    photo().save(tmp_path / "photo.png")
    wrong = {key: str(value) if key == "layer" else value for key, value in wrong.items()}
    with pytest.raises(ValueError, match=message):
        observe(segmenter("dit"), tmp_path / "photo.png", CLASSES, out, records=True, **wrong)  # type: ignore[arg-type]
    assert not out.exists()


def test_observing_an_image_file(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    saved = observe(segmenter("flux"), tmp_path / "photo.png", CLASSES, tmp_path / "out", records=True)
    assert {path.name for path in saved.files.values()} == {path.name for path in (tmp_path / "out").iterdir()}
    assert saved.files["records"].name == "photo_records.npz"
    with pytest.raises((ValueError, OSError), match="exist"):
        observe(segmenter("flux"), tmp_path / "photo.png", CLASSES, tmp_path / "out")
    again = observe(segmenter("flux"), tmp_path / "photo.png", CLASSES, tmp_path / "out", overwrite=True)
    assert {path.name for path in again.files.values()} == {path.name for path in (tmp_path / "out").iterdir()}


def test_a_failure_while_the_files_are_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo().save(tmp_path / "photo.png")

    def fail(*_: object) -> None:
        raise ValueError("no picture")

    monkeypatch.setattr("goca.observation.pictures.draw_stages", fail)
    with pytest.raises(ValueError, match="no picture"):
        observe(segmenter("flux"), tmp_path / "photo.png", CLASSES, tmp_path / "out", records=True)
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png"}


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (400, 3)])
def test_images_of_any_shape_are_drawn(size: tuple[int, int], tmp_path: Path) -> None:
    explanation = segmenter("unet").explain(photo(*size), CLASSES, background=["sky"])
    files = explanation.save(tmp_path, at=[(size[0] - 1, size[1] - 1)], head=0)
    with Image.open(files["word cat"]) as picture:
        assert picture.size == size
    assert Explanation.load_npz(files["npz"]).image.size == size
