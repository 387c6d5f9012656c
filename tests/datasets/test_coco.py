"""COCO-Object and COCO-Stuff in their true formats."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import grey_counts, named_counts, patches, write_grey, write_photo
from PIL import Image

from goca.datasets import open_dataset
from goca.datasets.coco import categories

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
    {"id": 13, "name": "stop sign", "isthing": 1, "supercategory": "outdoor"},
    {"id": 90, "name": "toothbrush", "isthing": 1, "supercategory": "indoor"},
    {"id": 92, "name": "banner", "isthing": 0, "supercategory": "textile"},
    {"id": 200, "name": "rug-merged", "isthing": 0, "supercategory": "floor"},
]
# Segment id -> category; the ids use all three bytes.
SEGMENTS = {
    "000000000139": {7: 1, 300: 13, 70_001: 200, 16_000_000: 90},
    "000000000285": {5: 92, 66_051: 1, 66_052: 1},
}
# The 27 coarse classes, counted from 1, that the field maps the pixel values 0 to 181 of COCO-Stuff to.
COARSE = (
    "10 12 12 12 12 12 12 12 12 9 9 9 9 9 9 8 8 8 8 8 8 8 8 8 8 7 7 7 7 7 7 7 7 11 11 11 11 11 11 11 11 11 11 6 6 6 6 "
    "6 6 6 6 3 3 3 3 3 3 3 3 3 3 4 4 4 4 4 4 4 4 4 4 1 1 1 1 1 1 2 2 2 2 2 2 5 5 5 5 5 5 5 5 18 18 23 21 21 23 16 26 "
    "17 14 13 13 18 18 24 16 16 18 16 22 16 26 14 14 14 14 14 23 27 15 15 16 23 22 22 25 21 23 16 18 17 16 23 25 22 18 "
    "26 17 22 18 23 17 22 22 26 22 27 22 25 21 18 15 22 27 16 24 21 22 25 16 25 23 26 16 21 18 18 23 15 19 19 19 19 19 "
    "19 19 27 27 20 20 25"
)
COARSE_NAMES = (
    "electronic appliance food furniture indoor kitchen accessory animal outdoor person sports vehicle "
    "ceiling floor food furniture raw-material textile wall window building ground plant sky solid structural water"
)


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    annotations: list[dict[str, Any]] = []
    for name, segments in SEGMENTS.items():
        write_photo(tmp_path / "val2017" / f"{name}.jpg", 14, 12)
        ids = patches([0, *segments], dtype=np.int32)
        folder = tmp_path / "annotations" / "panoptic_val2017"
        folder.mkdir(parents=True, exist_ok=True)
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"{name}.png")
        parts = [{"id": part, "category_id": kind, "iscrowd": 0, "area": 1} for part, kind in segments.items()]
        annotations.append({"image_id": int(name), "file_name": f"{name}.png", "segments_info": parts})
    images = [{"id": int(name), "file_name": f"{name}.jpg", "width": 14, "height": 12} for name in SEGMENTS]
    write_json(tmp_path, {"images": images, "annotations": annotations, "categories": CATEGORIES})
    return tmp_path


def write_json(root: Path, content: Any) -> None:
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content), encoding="utf-8")


def read_json(root: Path) -> Any:
    return json.loads((root / "annotations" / "panoptic_val2017.json").read_text(encoding="utf-8"))


def test_panoptic_counts_agree_with_the_colours(panoptic: Path) -> None:
    dataset = open_dataset("coco-object", panoptic)
    assert dataset.names == ("000000000139.jpg", "000000000285.jpg")
    names = {each["id"]: each["name"] if each["isthing"] else "background" for each in CATEGORIES}
    for sample in (dataset[0], dataset[1]):
        stem = sample.name.removesuffix(".jpg")
        expected: Counter[str] = Counter()
        for pixels, (red, green, blue) in Image.open(
            panoptic / "annotations/panoptic_val2017" / f"{stem}.png"
        ).getcolors():
            segment = red + 256 * green + 256**2 * blue
            expected["void" if segment == 0 else names[SEGMENTS[stem][segment]]] += pixels
        assert named_counts(dataset, sample) == dict(expected)
    assert {"void", "stop sign", "toothbrush"} < named_counts(dataset, dataset[0]).keys()


def test_things_are_counted_from_1_to_80_in_the_order_of_their_ids(panoptic: Path) -> None:
    dataset = open_dataset("coco-object", panoptic)
    assert len(dataset.classes) == 81
    assert dataset.has_background
    places = {"person": 1, "bicycle": 2, "stop sign": 12, "bear": 22, "toothbrush": 80}
    assert {name: dataset.class_names.index(name) for name in places} == places
    assert set(np.unique(dataset[0].labels)) == {0, 1, 12, 80, 255}


def test_images_may_lie_in_a_folder_of_their_own(panoptic: Path) -> None:
    (panoptic / "images").mkdir()
    (panoptic / "val2017").rename(panoptic / "images" / "val2017")
    assert open_dataset("coco-object", panoptic)[0].image.size == (14, 12)


def test_panoptic_says_what_is_wrong(panoptic: Path) -> None:
    content, label = read_json(panoptic), panoptic / "annotations/panoptic_val2017/000000000285.png"
    with pytest.raises(ValueError, match=r"panoptic_train2017\.json is missing; .*panoptic_annotations_trainval2017"):
        open_dataset("coco-object", panoptic, "train")
    dataset = open_dataset("coco-object", panoptic)
    Image.new("RGB", (14, 12), (9, 1, 0)).save(label)
    with pytest.raises(ValueError, match=r"000000000285\.png holds the segment id 265, which its JSON file lacks"):
        dataset[1]
    Image.new("P", (14, 12)).save(label)
    with pytest.raises(ValueError, match=r"000000000285\.png has the colour mode P, but segment ids are stored as RGB"):
        dataset[1]
    label.unlink()
    with pytest.raises(ValueError, match=r"000000000285\.png is missing"):
        open_dataset("coco-object", panoptic)
    content["annotations"][0]["segments_info"][0]["category_id"] = 93
    write_json(panoptic, content)
    with pytest.raises(
        ValueError, match=r"panoptic_val2017\.json is damaged or no panoptic annotation \(93 is missing"
    ):
        open_dataset("coco-object", panoptic)
    write_json(panoptic, content | {"categories": [{"id": 12, "name": "street sign", "isthing": 1}]})
    with pytest.raises(ValueError, match="it has a thing of category 12, which COCO lacks"):
        open_dataset("coco-object", panoptic)
    for wrong in ([], {"images": []}, {"images": [], "annotations": [None], "categories": []}):
        write_json(panoptic, wrong)
        with pytest.raises(ValueError, match=r"panoptic_val2017\.json is damaged or no panoptic annotation"):
            open_dataset("coco-object", panoptic)
    (panoptic / "annotations" / "panoptic_val2017.json").write_text('{"images": [', encoding="utf-8")
    with pytest.raises(ValueError, match=r"panoptic_val2017\.json is damaged"):
        open_dataset("coco-object", panoptic)


@pytest.fixture
def stuff(tmp_path: Path) -> Path:
    write_photo(tmp_path / "val2017" / "000000000139.jpg", 26, 7)
    write_grey(tmp_path / "stuffthingmaps/val2017/000000000139.png", np.arange(182, dtype=np.uint8).reshape(7, 26))
    write_photo(tmp_path / "val2017" / "000000000285.jpg", 14, 12)
    write_grey(tmp_path / "stuffthingmaps/val2017/000000000285.png", patches([255, 0, 17, 120, 58, 181]))
    return tmp_path


def test_stuff_counts_agree_with_the_histogram(stuff: Path) -> None:
    dataset = open_dataset("coco-stuff", stuff)
    names = {255: "void", 0: "person", 17: "animal", 120: "food", 58: "food", 181: "solid"}
    path = stuff / "stuffthingmaps/val2017/000000000285.png"
    assert named_counts(dataset, dataset[1]) == grey_counts(path, names)


def test_all_182_values_have_the_class_that_the_field_gives_them(stuff: Path) -> None:
    dataset = open_dataset("coco-stuff", stuff)
    coarse = COARSE_NAMES.replace("-", "\N{NO-BREAK SPACE}").split(" ")
    expected = [coarse[int(number) - 1].replace("\N{NO-BREAK SPACE}", " ") for number in COARSE.split()]
    assert [dataset.class_names[value] for value in dataset[0].labels.ravel()] == expected


def test_food_and_furniture_are_one_class_each(stuff: Path) -> None:
    dataset = open_dataset("coco-stuff", stuff)
    assert len(dataset.classes) == len(set(dataset.class_names)) == 25
    assert not dataset.has_background
    assert sorted(np.unique(dataset[0].labels)) == list(range(25))  # no class is left without pixels
    assert "dog" in dataset.classes[dataset.class_names.index("animal")]


def test_stuff_says_what_is_wrong(stuff: Path) -> None:
    path = stuff / "stuffthingmaps/val2017/000000000285.png"
    dataset = open_dataset("coco-stuff", stuff)
    write_grey(path, np.full((12, 14), 182, np.uint8))
    with pytest.raises(ValueError, match=r"000000000285\.png holds the class id 182"):
        dataset[1]
    path.unlink()
    with pytest.raises(ValueError, match=r"000000000285\.jpg has no label file; .*stuffthingmaps_trainval2017\.zip"):
        open_dataset("coco-stuff", stuff)
    with pytest.raises(ValueError, match=r"stuffthingmaps.train2017 is missing"):
        open_dataset("coco-stuff", stuff, "train")


def test_there_are_80_things_91_stuffs_and_11_removed_things() -> None:
    kinds = {value: category.kind for value, category in categories().items()}
    assert Counter(kinds.values()) == {"thing": 80, "stuff": 91, "removed": 11}
    removed = [value for value, kind in kinds.items() if kind == "removed"]
    assert removed == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91]
    assert [value for value, kind in kinds.items() if kind == "stuff"] == list(range(92, 183))
