"""Pascal VOC and Pascal Context in their true formats."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from makers import named_counts, patches, write_list, write_photo
from PIL import Image

from goca.datasets import open_dataset

VOC_GOLDEN = Path(__file__).parent.parent / "golden" / "alignment" / "voc.json"
CLASS_LISTS = Path(__file__).parent / "class_lists.json"
# The ids of the 59 classes among the 459 of Pascal Context, as in the converters of the field.
CONTEXT_IDS = (
    "2 aeroplane,9 bag,18 bed,19 bedclothes,22 bench,23 bicycle,25 bird,31 boat,33 book,34 bottle,44 building,45 bus,"
    "46 cabinet,59 car,65 cat,68 ceiling,72 chair,80 cloth,85 computer,98 cow,104 cup,105 curtain,113 dog,115 door,"
    "144 fence,158 floor,159 flower,162 food,187 grass,189 ground,207 horse,220 keyboard,232 light,258 motorbike,"
    "259 mountain,260 mouse,284 person,295 plate,296 platform,308 pottedplant,324 road,326 rock,347 sheep,349 shelves,"
    "354 sidewalk,355 sign,360 sky,366 snow,368 sofa,397 table,415 track,416 train,420 tree,424 truck,427 tvmonitor,"
    "440 wall,445 water,454 window,458 wood"
)


def voc_palette() -> list[tuple[int, int, int]]:
    """The official colours: the bits of an index, spread over red, green and blue from the top."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        for shift in range(8):
            red |= (index >> (3 * shift) & 1) << (7 - shift)
            green |= (index >> (3 * shift + 1) & 1) << (7 - shift)
            blue |= (index >> (3 * shift + 2) & 1) << (7 - shift)
        colours.append((red, green, blue))
    return colours


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for name, ids in {"2007_000033": [0, 1, 15, 255], "2007_000032": [0, 11, 20, 255]}.items():
        write_photo(base / "JPEGImages" / f"{name}.jpg", 14, 12)
        mask = Image.fromarray(patches(ids), "P")
        mask.putpalette([part for colour in voc_palette() for part in colour])
        (base / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(base / "SegmentationClass" / f"{name}.png")
    write_list(base / "ImageSets" / "Segmentation" / "train.txt", ["2007_000033", "2007_000032"])
    write_list(base / "ImageSets" / "Segmentation" / "val.txt", ["2007_000032"])
    return tmp_path


def test_voc_counts_agree_with_its_colours(voc: Path) -> None:
    dataset = open_dataset("voc", voc, "train")
    assert dataset.names == ("2007_000033.jpg", "2007_000032.jpg")  # in the order of the list
    colours = voc_palette()
    for sample in (dataset[0], dataset[1]):
        path = voc / "VOCdevkit/VOC2012/SegmentationClass" / sample.name.replace("jpg", "png")
        shown = {colour: pixels for pixels, colour in Image.open(path).convert("RGB").getcolors()}
        names = {colours[index]: name for index, name in enumerate(dataset.class_names)} | {colours[255]: "void"}
        assert named_counts(dataset, sample) == {names[colour]: pixels for colour, pixels in shown.items()}
        assert sample.labels.dtype == np.uint8
        assert sample.image.size == (14, 12)
        assert sample.caption is None
    assert {"aeroplane", "person", "void"} < named_counts(dataset, dataset[0]).keys()


@pytest.mark.parametrize("level", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_opens_at_every_usual_level(voc: Path, level: str) -> None:
    assert open_dataset("voc", voc / level).names == ("2007_000032.jpg",)


def test_voc_classes_are_the_listed_ones(voc: Path) -> None:
    listed = json.loads(CLASS_LISTS.read_text(encoding="utf-8"))["voc"]
    assert open_dataset("voc", voc).classes == tuple(map(tuple, listed))


def test_voc_classes_have_the_published_names_and_order(voc: Path) -> None:
    published = json.loads(VOC_GOLDEN.read_text(encoding="utf-8"))["classes"]
    classes = open_dataset("voc", voc).classes
    assert len(classes) == len(published) and not classes[0] and not published[0]
    for words, other in zip(classes[1:], published[1:], strict=True):
        assert {word.replace(" ", "") for word in words} & {word.replace(" ", "") for word in other}


def test_voc_says_what_is_missing(voc: Path) -> None:
    base = voc / "VOCdevkit" / "VOC2012"
    with pytest.raises(ValueError, match=r"trainval\.txt is missing; .*VOCtrainval_11-May-2012\.tar"):
        open_dataset("voc", voc, "trainval")
    with pytest.raises(ValueError, match="unknown split of voc 'test'; choose one of train, val, trainval"):
        open_dataset("voc", voc, "test")
    with pytest.raises(ValueError, match="voc needs the folder of its files as root"):
        open_dataset("voc")
    with pytest.raises(ValueError, match=r"there is no folder .*elsewhere"):
        open_dataset("voc", voc / "elsewhere")
    (base / "SegmentationClass" / "2007_000032.png").unlink()
    (base / "JPEGImages" / "2007_000033.jpg").unlink()
    with pytest.raises(ValueError, match=r"JPEGImages.2007_000033\.jpg is missing \(and 1 more\); .*SegmentationClass"):
        open_dataset("voc", voc, "train")


def test_voc_names_a_damaged_or_foreign_file(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"
    whole = path.read_bytes()
    dataset = open_dataset("voc", voc)
    path.write_bytes(whole[: len(whole) - 30])
    with pytest.raises(ValueError, match=r"2007_000032\.png is damaged or cut short"):
        dataset[0]
    Image.new("RGB", (14, 12)).save(path)
    with pytest.raises(ValueError, match=r"2007_000032\.png has the colour mode RGB, but class ids are stored in"):
        dataset[0]
    Image.new("L", (13, 12)).save(path)
    with pytest.raises(ValueError, match=r"2007_000032\.png has 13 x 12 pixels, but its image .*jpg has 14 x 12"):
        dataset[0]
    Image.new("L", (14, 12), 21).save(path)
    with pytest.raises(ValueError, match=r"2007_000032\.png holds the class id 21 \(168 unknown pixels in all\)"):
        dataset[0]
    path.write_bytes(whole)
    (voc / "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2007_000032\.jpg is not an image"):
        dataset[0]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2010"
    names = dict(enumerate(f"other{index}" for index in range(460)))
    names |= {int(value): name for value, name in (entry.split() for entry in CONTEXT_IDS.split(","))}
    names[1] = "accordion"
    write_list(tmp_path / "labels.txt", [f"{index}: {names[index]}" for index in range(1, 460)])
    (tmp_path / "trainval").mkdir()
    for name, ids in {"2008_000002": [0, 1, 2, 308, 459], "2008_000003": [427, 458, 397, 19]}.items():
        write_photo(base / "JPEGImages" / f"{name}.jpg", 14, 12)
        scipy.io.savemat(tmp_path / "trainval" / f"{name}.mat", {"LabelMap": patches(ids, dtype=np.uint16)})
    write_list(base / "ImageSets" / "Main" / "train.txt", ["2008_000002"])
    write_list(base / "ImageSets" / "Main" / "val.txt", ["2008_000003", "2008_000002"])
    return tmp_path


def test_context_counts_agree_with_the_names_of_the_ids(context: Path) -> None:
    dataset = open_dataset("context", context)
    assert dataset.names == ("2008_000003.jpg", "2008_000002.jpg")
    assert len(dataset.classes) == 60
    names = {int(entry.split()[0]): entry.split()[1] for entry in CONTEXT_IDS.split(",")}
    for sample in (dataset[0], dataset[1]):
        stored = scipy.io.loadmat(str(context / "trainval" / sample.name.replace("jpg", "mat")))["LabelMap"]
        expected = Counter(names.get(int(value), "background") for row in stored for value in row)
        found = named_counts(dataset, sample)
        assert {name.replace(" ", ""): pixels for name, pixels in found.items()} == dict(expected)
    assert {"aeroplane", "potted plant", "background"} == set(named_counts(dataset, dataset[1]))


def test_context_maps_all_59_classes(context: Path) -> None:
    entries = [entry.split() for entry in CONTEXT_IDS.split(",")]
    ids = np.array([[int(value) for value, _ in entries]], np.uint16)
    write_photo(context / "VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg", 59, 1)
    scipy.io.savemat(context / "trainval" / "2008_000002.mat", {"LabelMap": ids})
    dataset = open_dataset("context", context, "train")
    named = [dataset.class_names[value].replace(" ", "") for value in dataset[0].labels[0]]
    assert named == [name for _, name in entries]


def test_context_prefers_its_own_lists(context: Path) -> None:
    write_list(context / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt", ["2008_000002"])
    assert open_dataset("context", context).names == ("2008_000002.jpg",)


def test_context_says_what_is_wrong(context: Path) -> None:
    dataset, path = open_dataset("context", context, "train"), context / "trainval" / "2008_000002.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"2008_000002\.mat is damaged or no MATLAB file"):
        dataset[0]
    scipy.io.savemat(path, {"Labels": np.zeros((12, 14))})
    with pytest.raises(ValueError, match=r"2008_000002\.mat has no two-dimensional LabelMap"):
        dataset[0]
    scipy.io.savemat(path, {"LabelMap": np.full((12, 14), 0.5)})
    with pytest.raises(ValueError, match="numbers in LabelMap that are no class ids"):
        dataset[0]
    scipy.io.savemat(path, {"LabelMap": np.full((12, 14), 460)})
    with pytest.raises(ValueError, match=r"2008_000002\.mat holds the class id 460"):
        dataset[0]
    for value, message in ((2**32 + 3, "holds the class id 4294967299"), (-2, "no class ids"), (2**64, "no class ids")):
        scipy.io.savemat(path, {"LabelMap": np.full((12, 14), float(value))})
        with pytest.raises(ValueError, match=message):
            dataset[0]
    path.unlink()
    with pytest.raises(ValueError, match=r"2008_000002\.mat is missing; .*labels of Pascal Context"):
        open_dataset("context", context, "train")
    listed = context / "labels.txt"
    lines = listed.read_text(encoding="utf-8").splitlines()
    listed.write_text("\n".join(line for line in lines if "tvmonitor" not in line), encoding="utf-8")
    with pytest.raises(ValueError, match=r"labels\.txt lacks the class tvmonitor of the 59"):
        open_dataset("context", context)
    listed.write_text("1 accordion\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .*labels\.txt is not like '1: accordion'"):
        open_dataset("context", context)
    listed.unlink()
    with pytest.raises(ValueError, match=r"labels\.txt is missing"):
        open_dataset("context", context)


def test_context_without_scipy_says_how_to_get_it(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def without_scipy(name: str, *words: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return true_import(name, *words)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ValueError, match="pip install scipy"):
        open_dataset("context", context)
