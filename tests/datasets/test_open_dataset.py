"""The registry, the generated scenes, and folders of one's own images."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from makers import named_counts, patches, write_grey, write_photo
from PIL import Image
from typer.testing import CliRunner

from goca.cli import app
from goca.datasets import DATASETS, open_dataset
from goca.datasets.coco import categories
from goca.datasets.files import CLASS_LISTS, read_classes, read_list
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.text.plurals import number_forms


def test_an_unknown_data_set_lists_all() -> None:
    with pytest.raises(ValueError, match="unknown data set 'kitti'; choose one of scenes, voc, context, coco-object, "):
        open_dataset("kitti")


def test_the_registry_knows_every_key() -> None:
    expected = ["scenes", "voc", "context", "coco-object", "coco-stuff", "cityscapes", "ade20k", "camvid", "folder"]
    assert list(DATASETS) == expected
    for key in expected[1:]:
        with pytest.raises(ValueError, match=f"{key} needs the folder of its files as root; .*get "):
            open_dataset(key)


def test_neither_torch_nor_scipy_is_imported() -> None:
    code = "import goca.datasets, sys; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["voc", "context", "cityscapes", "camvid"])
def test_no_synonym_stands_for_two_classes(name: str) -> None:
    assert ambiguous(read_classes(CLASS_LISTS / f"{name}.txt")) == {}


def test_no_synonym_of_coco_stands_for_two_classes(tmp_path: Path) -> None:
    write_photo(tmp_path / "val2017" / "a.jpg", 2, 2)
    write_grey(tmp_path / "annotations" / "val2017" / "a.png", np.zeros((2, 2), np.uint8))
    assert ambiguous(open_dataset("coco-stuff", tmp_path).classes) == {}
    assert ambiguous([category.words for category in categories().values() if category.kind == "thing"]) == {}


def ambiguous(classes: Sequence[tuple[str, ...]]) -> dict[str, set[int]]:
    """The words, in singular or plural, that stand for several classes."""
    places: dict[str, set[int]] = {}
    for index, words in enumerate(classes):
        for form in {form for word in words for form in number_forms(word)}:
            places.setdefault(form, set()).add(index)
    return {word: found for word, found in places.items() if len(found) > 1}


def test_scenes_are_the_generated_ones() -> None:
    dataset = open_dataset("scenes", seed=3, limit=4, size=64)
    assert dataset.names == ("00000.png", "00001.png", "00002.png", "00003.png")
    assert dataset.class_names == CLASS_NAMES
    assert not dataset.has_background
    sample, scene = dataset[2], make_scene(3, 2, 64)
    assert np.array_equal(np.asarray(sample.image), np.asarray(scene.image))
    assert np.array_equal(sample.labels, scene.labels)
    assert sample.caption == scene.caption
    assert len(open_dataset("scenes")) == 200


def test_scenes_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no root folder and no splits"):
        open_dataset("scenes", tmp_path)
    with pytest.raises(ValueError, match="no root folder and no splits"):
        open_dataset("scenes", split="val")
    for name, value in (("seed", -1), ("limit", 0), ("size", 8)):
        with pytest.raises(ValueError, match=f"the {name}.* is a whole number of at least .*, not {value}"):
            open_dataset("scenes", **{name: value})


def test_a_folder_written_by_goca_scenes_is_read_back(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    words = ["scenes", "--count", "3", "--seed", "5", "--size", "64", "--out", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    dataset, drawn = open_dataset("folder", out), open_dataset("scenes", seed=5, limit=3, size=64)
    assert dataset.names == drawn.names
    assert dataset.classes == drawn.classes
    for index in range(3):
        read, made = dataset[index], drawn[index]
        assert np.array_equal(read.labels, made.labels)
        assert np.array_equal(np.asarray(read.image), np.asarray(made.image))
        assert read.caption == made.caption


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photo(tmp_path / "images" / "cat.jpg", 14, 12)
    write_grey(tmp_path / "labels" / "cat.png", patches([0, 1, 2, 255], dtype=np.uint16))
    (tmp_path / "classes.txt").write_text("\ufeffbackground\r\ncat | kitten\r\ngrass\r\n\r\n", encoding="utf-8")
    return tmp_path


def test_16_bit_masks_are_read(folder: Path) -> None:
    dataset = open_dataset("folder", folder)
    assert dataset.classes == ((), ("cat", "kitten"), ("grass",))
    mask = Image.open(folder / "labels" / "cat.png")
    assert mask.mode == "I;16"
    values = struct.unpack(f"<{14 * 12}H", mask.tobytes())
    names = {0: "background", 1: "cat", 2: "grass", 255: "void"}
    assert named_counts(dataset, dataset[0]) == dict(Counter(names[value] for value in values))
    assert dataset[0].caption is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_masks_of_few_bits_keep_their_numbers(folder: Path, bits: int, palette: bool) -> None:
    values = [0, 1, 1, 0, 1, 0, 0, 1] if bits == 1 else [0, 1, 2, 1, 0, 2, 2, 1]
    digits = "".join(f"{value:0{bits}b}" for value in values)
    row = int(digits, 2).to_bytes(bits, "big")
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, 3 if palette else 0, 0, 0, 0))]
    if palette:
        chunks.append((b"PLTE", bytes(range(3 * 2 ** min(bits, 2)))))
    chunks += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (folder / "labels" / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    write_photo(folder / "images" / "cat.jpg", 8, 1)
    assert open_dataset("folder", folder)[0].labels.tolist() == [values]


def test_a_folder_says_what_is_wrong(folder: Path) -> None:
    label = folder / "labels" / "cat.png"
    with pytest.raises(ValueError, match="folder has no splits; leave 'val' out"):
        open_dataset("folder", folder, "val")
    write_grey(label, np.full((12, 14), 300, np.uint16))
    with pytest.raises(ValueError, match=r"cat\.png holds the class id 300"):
        open_dataset("folder", folder)[0]
    write_grey(label, np.full((12, 14), 3, np.uint8))
    with pytest.raises(ValueError, match=r"cat\.png holds the class id 3 "):
        open_dataset("folder", folder)[0]
    Image.new("RGBA", (14, 12)).save(label)
    with pytest.raises(ValueError, match=r"cat\.png has the colour mode RGBA"):
        open_dataset("folder", folder)[0]
    write_photo(folder / "images" / "cat.png", 14, 12)
    with pytest.raises(ValueError, match=r"cat\.jpg and .*cat\.png have the same name"):
        open_dataset("folder", folder)
    (folder / "images" / "cat.png").rename(folder / "images" / "dog.png")
    with pytest.raises(ValueError, match=r"dog\.png has no label file; .*goca scenes"):
        open_dataset("folder", folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"classes\.txt is missing"):
        open_dataset("folder", folder)


def test_captions_of_a_folder_fit_its_images(folder: Path) -> None:
    path = folder / "captions.json"
    path.write_text(json.dumps({"cat.jpg": {"caption": "kitten, grass"}}), encoding="utf-8")
    assert open_dataset("folder", folder)[0].caption == "kitten, grass"
    path.write_text(json.dumps({"dog.jpg": {"caption": "dog"}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions\.json has no caption for the image cat\.jpg"):
        open_dataset("folder", folder)
    path.write_text(json.dumps({name: {"caption": "cat"} for name in ("cat.jpg", "dog.jpg")}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions\.json has a caption for dog\.jpg, but there is no such image"):
        open_dataset("folder", folder)
    path.write_text('{"cat.jpg": {"capt', encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions\.json is damaged"):
        open_dataset("folder", folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names 0 classes; write 1 to 255"),
        ("cat\n\ndog\n", "line 2 of .* names no class"),
        ("cat||kitten\n", "line 1 of .* names no class, or an empty synonym"),
        ("cat\nbackground\n", "line 2 of .* is the background; make it the first line"),
        ("cat\n-|dog\n", "line 2 of .* has punctuation for a name"),
        ("cat\ndog\ncat|kitten\n", "lines 1 and 3 of .* are both 'cat'"),
        ("\n".join(map(str, range(256))), "names 256 classes"),
    ],
)
def test_a_class_list_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_lists_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("a\nb\n\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"val\.txt names a twice"):
        read_list(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"val\.txt is no text in UTF-8"):
        read_list(path)
    with pytest.raises(ValueError, match=r"other\.txt cannot be read \(No such file or directory\)"):
        read_list(tmp_path / "other.txt")
