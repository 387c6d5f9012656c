"""Cityscapes, ADE20K and CamVid: folders of grey label maps."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from makers import grey_counts, named_counts, patches, write_grey, write_photo
from PIL import Image

from goca.datasets import open_dataset
from goca.datasets.base import Sample
from goca.images import turn

ADE_GOLDEN = Path(__file__).parent.parent / "golden" / "alignment" / "ade20k.json"
CLASS_LISTS = Path(__file__).parent / "class_lists.json"
# The official names and ids of the benchmark's classes.
CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
CAMVID = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
    "void",
]


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for city, stem in (("lindau", "lindau_000000_000019"), ("frankfurt", "frankfurt_000000_000294")):
        write_photo(tmp_path / "leftImg8bit/val" / city / f"{stem}_leftImg8bit.png", 34, 8)
        ids = np.sort(np.random.default_rng(len(city)).integers(0, 34, (8, 34), dtype=np.uint8))
        ids[0] = np.arange(34)
        for kind in ("labelIds", "labelTrainIds"):
            write_grey(tmp_path / "gtFine/val" / city / f"{stem}_gtFine_{kind}.png", ids)
    return tmp_path


def test_cityscapes_counts_agree_with_the_histogram(cityscapes: Path) -> None:
    dataset = open_dataset("cityscapes", cityscapes)
    stems = ["frankfurt_000000_000294", "lindau_000000_000019"]
    assert dataset.names == tuple(f"{stem}_leftImg8bit.png" for stem in stems)
    assert dataset.class_names == ("background", *CITYSCAPES.values())
    names = {value: CITYSCAPES.get(value, "background") for value in range(34)}
    for index, stem in enumerate(stems):
        path = cityscapes / "gtFine/val" / stem.split("_")[0] / f"{stem}_gtFine_labelIds.png"
        assert named_counts(dataset, dataset[index]) == grey_counts(path, names)


def test_cityscapes_says_what_is_wrong(cityscapes: Path) -> None:
    path = cityscapes / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"
    dataset = open_dataset("cityscapes", cityscapes)
    write_grey(path, np.full((8, 34), 34, np.uint8))
    with pytest.raises(ValueError, match=r"lindau_000000_000019_gtFine_labelIds\.png holds the class id 34"):
        dataset[1]
    path.unlink()
    with pytest.raises(ValueError, match=r"lindau_000000_000019_leftImg8bit\.png has no label file"):
        open_dataset("cityscapes", cityscapes)
    with pytest.raises(
        ValueError, match=r"leftImg8bit.train is missing; .*splits: train, val.*cityscapes-dataset\.com"
    ):
        open_dataset("cityscapes", cityscapes, "train")
    with pytest.raises(ValueError, match="unknown split of cityscapes 'test'; choose one of train, val"):
        open_dataset("cityscapes", cityscapes, "test")


@pytest.fixture
def ade20k(tmp_path: Path) -> Path:
    base = tmp_path / "ADEChallengeData2016"
    for index, ids in enumerate(([0, 1, 150, 12], [68, 3, 2]), start=1):
        write_photo(base / "images/validation" / f"ADE_val_{index:08d}.jpg", 14, 12)
        write_grey(base / "annotations/validation" / f"ADE_val_{index:08d}.png", patches(ids))
    return tmp_path


@pytest.mark.parametrize("level", [".", "ADEChallengeData2016"])
def test_ade20k_counts_agree_with_the_histogram(ade20k: Path, level: str) -> None:
    dataset = open_dataset("ade20k", ade20k / level)
    assert dataset.names == ("ADE_val_00000001.jpg", "ADE_val_00000002.jpg")
    names = {0: "background", 1: "wall", 150: "flag", 12: "sidewalk", 68: "book", 3: "sky", 2: "building"}
    for index, name in enumerate(dataset.names):
        path = ade20k / "ADEChallengeData2016/annotations/validation" / name.replace("jpg", "png")
        assert named_counts(dataset, dataset[index]) == grey_counts(path, names)


def test_ade20k_classes_are_the_listed_ones(ade20k: Path) -> None:
    listed = json.loads(CLASS_LISTS.read_text(encoding="utf-8"))["ade20k"]
    assert open_dataset("ade20k", ade20k).classes == tuple(map(tuple, listed))


def test_ade20k_classes_have_the_published_names_and_order(ade20k: Path) -> None:
    published = json.loads(ADE_GOLDEN.read_text(encoding="utf-8"))["classes"]
    classes = open_dataset("ade20k", ade20k).classes
    assert len(classes) == len(published) and not classes[0] and not published[0]
    assert [words[0] for words in classes[1:]] == [words[0] for words in published[1:]]


def test_ade20k_says_what_is_wrong(ade20k: Path) -> None:
    folder = ade20k / "ADEChallengeData2016"
    write_grey(folder / "annotations/validation/ADE_val_00000002.png", np.full((12, 14), 151, np.uint8))
    with pytest.raises(ValueError, match=r"ADE_val_00000002\.png holds the class id 151"):
        open_dataset("ade20k", ade20k)[1]
    (folder / "images/validation/ADE_val_00000002.jpg").unlink()
    with pytest.raises(ValueError, match=r"ADE_val_00000002\.png has no image; .*ADEChallengeData2016\.zip"):
        open_dataset("ade20k", ade20k)
    with pytest.raises(ValueError, match=r"images.training is missing"):
        open_dataset("ade20k", ade20k, "train")
    write_photo(folder / "images/training/.hidden.jpg", 2, 2)
    (folder / "annotations/training").mkdir()
    with pytest.raises(ValueError, match="there are no images of the split 'train'"):
        open_dataset("ade20k", ade20k, "train")


@pytest.mark.parametrize(("suffix", "labels"), [("jpg", "test_labels"), ("png", "testannot")])
def test_camvid_counts_agree_with_the_histogram(tmp_path: Path, suffix: str, labels: str) -> None:
    write_photo(tmp_path / "test" / f"0001TP_008550.{suffix}", 14, 12)
    write_grey(tmp_path / labels / "0001TP_008550.png", patches(list(range(12))))
    dataset = open_dataset("camvid", tmp_path, "test")
    assert not dataset.has_background
    assert dataset.class_names == tuple(CAMVID[:11])
    expected = grey_counts(tmp_path / labels / "0001TP_008550.png", dict(enumerate(CAMVID)))
    assert named_counts(dataset, dataset[0]) == expected
    copy = pickle.loads(pickle.dumps(dataset))  # workers get the data set so
    assert np.array_equal(copy[0].labels, dataset[0].labels)


def test_camvid_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"val is missing; camvid reads .*splits: train, val, test"):
        open_dataset("camvid", tmp_path)
    write_photo(tmp_path / "val" / "a.png", 14, 12)
    write_grey(tmp_path / "val_labels" / "a.png", np.full((12, 14), 12, np.uint8))
    with pytest.raises(ValueError, match=r"a\.png holds the class id 12"):
        open_dataset("camvid", tmp_path)[0]


def write_pair(
    root: Path, stored: np.ndarray, labels: np.ndarray, orientation: int, label_orientation: int = 0
) -> Path:
    """A folder data set of one photograph with an EXIF orientation."""
    for name, array, kind in (("images/a.png", stored, orientation), ("labels/a.png", labels, label_orientation)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if kind:
            exif[0x0112] = kind
        Image.fromarray(array).save(root / name, exif=exif)
    (root / "classes.txt").write_text("background\nbright\n")
    return root


def bright(sample: Sample) -> np.ndarray:
    return (np.asarray(sample.image.convert("L")) > 128).astype(np.uint8)


CORNER = np.zeros((6, 4), np.uint8)
CORNER[:2, :3] = 1
PHOTO = np.repeat(CORNER[..., None] * np.uint8(255), 3, axis=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_follow_a_photograph_that_exif_turns(orientation: int, tmp_path: Path) -> None:
    shown = np.asarray(turn(Image.fromarray(CORNER), orientation))
    root = write_pair(tmp_path / "own", PHOTO, CORNER, orientation, orientation)
    sample = open_dataset("folder", root)[0]  # both files say how they are turned
    np.testing.assert_array_equal(sample.labels, shown)
    np.testing.assert_array_equal(sample.labels, bright(sample))

    for name, labels in (("stored", CORNER), ("shown", shown)):
        dataset = open_dataset("folder", write_pair(tmp_path / name, PHOTO, labels, orientation))
        if orientation in (2, 3, 4):
            with pytest.raises(ValueError, match=rf"EXIF orientation {orientation}.* whether its labels are of the"):
                dataset[0]
        else:
            np.testing.assert_array_equal(dataset[0].labels, bright(dataset[0]))


def test_square_photographs_that_exif_turns_are_refused(tmp_path: Path) -> None:
    dataset = open_dataset("folder", write_pair(tmp_path, PHOTO[:4], CORNER[:4], 6))
    with pytest.raises(ValueError, match=r"a\.png is shown turned by its EXIF orientation 6"):
        dataset[0]


def test_labels_of_benchmarks_are_drawn_on_the_stored_pixels(ade20k: Path) -> None:
    base = ade20k / "ADEChallengeData2016"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(PHOTO).save(base / "images/validation/ADE_val_00000001.jpg", exif=exif)
    write_grey(base / "annotations/validation/ADE_val_00000001.png", CORNER)
    sample = open_dataset("ade20k", ade20k)[0]
    np.testing.assert_array_equal(sample.labels, CORNER[::-1, ::-1])
    assert sample.labels[-1, -1] == 1 and bright(sample)[-1, -1] == 1


@pytest.mark.parametrize(("value", "dtype"), [(-2, np.int32), (-1, np.int32), (2**31 - 1, np.int32), (300, np.uint16)])
def test_ids_that_would_wrap_are_refused(value: int, dtype: type, tmp_path: Path) -> None:
    root = write_pair(tmp_path, PHOTO, CORNER, 1)
    Image.fromarray(np.full((6, 4), value, dtype)).save(root / "labels/a.png", "TIFF")
    with pytest.raises(ValueError, match=rf"holds the class id {value} \(24 unknown pixels"):
        open_dataset("folder", root)[0]


def test_labels_in_a_format_that_loses_values_are_refused(tmp_path: Path) -> None:
    root = write_pair(tmp_path, PHOTO, CORNER, 1)
    Image.fromarray(CORNER).save(root / "labels/a.png", "JPEG")
    with pytest.raises(ValueError, match=r"a\.png is a JPEG, which changes class ids; store them as PNG"):
        open_dataset("folder", root)[0]
