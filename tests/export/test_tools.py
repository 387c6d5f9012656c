"""Formats of labelling tools and data set libraries, read back: with the real library where it can be installed."""

from __future__ import annotations

import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from brush_codes import decode_brush
from PIL import Image, ImageDraw

from goca import Segmentation
from goca.classes import BACKGROUND
from goca.export import Exporter
from goca.export.label_studio import encode_brush

CLASSES = ("cat", "sky", "background")


def segmentation(seed: int, classes: tuple[str, ...] = CLASSES) -> Segmentation:
    """Blobs of 40 x 30 pixels, and one class that has no pixel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, len(classes), (5, 6)).astype(np.uint8)
    labels = np.asarray(Image.fromarray(coarse).resize((40, 30), Image.Resampling.NEAREST)).astype(int)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    maps = rng.uniform(0, 1, (len(classes) + 1, 4, 4)).astype(np.float32)
    return Segmentation(image, ("whale", *classes), labels + 1, maps)


RESULTS = {"a": segmentation(0), "b": segmentation(1, ("sky", "tree")).ignore(0.1)}


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    exporter = Exporter(tmp_path, [request.param])
    for stem, result in RESULTS.items():
        exporter.add(result, stem)
    exporter.finish()
    return tmp_path


def mask(result: Segmentation, name: str) -> np.ndarray:
    return result.labels == result.classes.index(name)


def check_labels(labels: np.ndarray, names: list[str], result: Segmentation) -> None:
    """Each class has its pixels, and what no class has is 0."""
    for name in result.classes:
        assert np.array_equal(labels == names.index(name) if name in names else labels == -1, mask(result, name)), name


@pytest.mark.parametrize("folder", ["voc"], indirect=True)
def test_voc_folder(folder: Path) -> None:
    lines = (folder / "voc" / "labelmap.txt").read_text().splitlines()[1:]
    names, colours = zip(*(line.split(":")[:2] for line in lines), strict=True)
    assert names[0] == BACKGROUND and colours[0] == "0,0,0"
    assert (folder / "voc/ImageSets/Segmentation/default.txt").read_text().split() == ["a", "b"]
    for stem, result in RESULTS.items():
        picture = Image.open(folder / "voc/SegmentationClass" / f"{stem}.png")
        assert picture.mode == "P"
        check_labels(np.asarray(picture), list(names), result)
        coloured = np.asarray(picture.convert("RGB"))
        expected = [int(channel) for channel in colours[names.index("sky")].split(",")]
        assert (coloured[mask(result, "sky")] == expected).all()
        assert Image.open(folder / "voc/JPEGImages" / f"{stem}.jpg").size == (40, 30)


@pytest.mark.parametrize("folder", ["cvat"], indirect=True)
def test_cvat_masks_are_in_the_colours_of_the_label_map(folder: Path) -> None:
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        assert archive.testzip() is None
        lines = archive.read("labelmap.txt").decode().splitlines()
        assert lines[0] == "# label:color_rgb:parts:actions" and lines[1] == "background:0,0,0::"
        assert archive.read("ImageSets/Segmentation/default.txt").decode().split() == ["a", "b"]
        for stem, result in RESULTS.items():
            picture = Image.open(archive.open(f"SegmentationClass/{stem}.png"))
            assert picture.mode == "RGB"
            for line in lines[1:]:
                name, colour = line.split(":")[:2]
                if name in result.classes:
                    found = (np.asarray(picture) == [int(channel) for channel in colour.split(",")]).all(axis=-1)
                    assert np.array_equal(found, mask(result, name)), name


@pytest.mark.parametrize("folder", ["yolo"], indirect=True)
def test_yolo_polygons_cover_the_masks(folder: Path) -> None:
    description = (folder / "yolo" / "data.yaml").read_text()
    names = [json.loads(line.split(":", 1)[1]) for line in description.splitlines() if line.startswith("  ")]
    assert names == ["whale", "cat", "sky", "tree"]
    for stem, result in RESULTS.items():
        drawn = {name: np.zeros((30, 40), dtype=bool) for name in names}
        for line in (folder / "yolo/labels" / f"{stem}.txt").read_text().splitlines():
            index, *numbers = line.split()
            corners = np.array(numbers, dtype=float).reshape(-1, 2) * [40, 30]
            assert (corners >= 0).all() and (corners <= [40, 30]).all() and len(corners) >= 4
            picture = Image.new("1", (400, 300))
            ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners * 10], fill=1)
            drawn[names[int(index)]] |= np.asarray(picture)[5::10, 5::10]
        for name in set(names) & set(result.classes):
            assert np.array_equal(drawn[name], mask(result, name)), name


@pytest.mark.parametrize("folder", ["coco-panoptic"], indirect=True)
def test_panoptic_colours_are_segments(folder: Path) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        assert annotation["image_id"] == image["id"] and (image["width"], image["height"]) == (40, 30)
        result = RESULTS[Path(annotation["file_name"]).stem]
        colours = np.asarray(Image.open(folder / "panoptic" / annotation["file_name"])).astype(int)
        numbers = colours @ [1, 256, 65536]
        void = mask(result, BACKGROUND) if BACKGROUND in result.classes else np.zeros((30, 40), bool)
        assert np.array_equal(numbers == 0, void | result.ignored)
        for each in annotation["segments_info"]:
            expected = mask(result, names[each["category_id"]])
            assert np.array_equal(numbers == each["id"], expected)
            assert each["area"] == expected.sum()
            x, y, width, height = each["bbox"]
            assert expected[y : y + height, x : x + width].sum() == each["area"]


@pytest.mark.parametrize("folder", ["label-studio"], indirect=True)
def test_label_studio_tasks(folder: Path) -> None:
    tasks = json.loads((folder / "label-studio.json").read_text())
    configuration = (folder / "label-studio.xml").read_text()
    assert [task["data"]["image"] for task in tasks] == ["a.png", "b.png"]
    for task, result in zip(tasks, RESULTS.values(), strict=True):
        (prediction,) = task["predictions"]
        assert 0 <= prediction["score"] <= 1
        for region in prediction["result"]:
            (name,) = region["value"]["brushlabels"]
            assert f'<Label value="{name}"' in configuration
            assert (region["original_width"], region["original_height"]) == (40, 30)
            decoded = decode_brush(region["value"]["rle"]).reshape(30, 40, 4)
            assert np.array_equal(decoded, np.repeat(mask(result, name)[..., None] * 255, 4, axis=-1))


@pytest.mark.parametrize("entry", json.loads((Path(__file__).parent / "brush_codes.json").read_text()))
def test_brush_codes_equal_those_of_label_studio(entry: dict) -> None:
    """``brush_codes.json`` holds what label-studio-sdk 2.0.19 makes of runs of 0 and 1, given by their lengths."""
    values = np.concatenate([np.full(length, index % 2 == 1) for index, length in enumerate(entry["runs"])])
    assert encode_brush(values.reshape(entry["shape"])) == entry["code"]


@pytest.mark.parametrize("folder", ["geojson"], indirect=True)
def test_geojson_areas(folder: Path) -> None:
    for stem, result in RESULTS.items():
        features = json.loads((folder / f"{stem}.geojson").read_text())["features"]
        assert {each["properties"]["class"] for each in features} == {segment.name for segment in result}
        for each in features:
            area = sum(
                shoelace(polygon[0]) - sum(map(shoelace, polygon[1:])) for polygon in each["geometry"]["coordinates"]
            )
            assert area == each["properties"]["area"] == mask(result, each["properties"]["class"]).sum()


def shoelace(ring: list[list[int]]) -> float:
    assert ring[0] == ring[-1]
    return abs(sum(x * v - u * y for (x, y), (u, v) in itertools.pairwise(ring))) / 2


@pytest.mark.parametrize("folder", ["npz"], indirect=True)
def test_npz_holds_the_arrays(folder: Path) -> None:
    for stem, result in RESULTS.items():
        with np.load(folder / f"{stem}.npz", allow_pickle=False) as arrays:
            assert tuple(arrays["classes"]) == result.classes
            assert arrays["labels"].dtype == np.uint8
            assert np.array_equal(arrays["labels"], result.labels)
            assert np.array_equal(arrays["maps"], result.maps)
            assert np.array_equal(arrays["margin"], result.margin)


@pytest.mark.parametrize("folder", ["fiftyone"], indirect=True)
def test_fiftyone_masks_are_grey_with_the_background_at_0(folder: Path) -> None:
    targets = json.loads((folder / "fiftyone/mask_targets.json").read_text())
    names = [BACKGROUND, *targets.values()]
    assert list(targets) == [str(index) for index in range(1, len(names))]
    for stem, result in RESULTS.items():
        picture = Image.open(folder / "fiftyone/labels" / f"{stem}.png")
        assert picture.mode == "L"
        check_labels(np.asarray(picture), names, result)
        assert np.array_equal(np.asarray(Image.open(folder / "fiftyone/data" / f"{stem}.png")), result.image)


@pytest.mark.parametrize("folder", ["huggingface"], indirect=True)
def test_datasets_reads_images_and_masks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    names = list(json.loads((folder / "huggingface/id2label.json").read_text()).values())
    files = str(folder / "huggingface" / "data" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))
    assert [type(loaded.features[key]).__name__ for key in ("image", "label")] == ["Image", "Image"]
    for row, result in zip(loaded, RESULTS.values(), strict=True):
        assert np.array_equal(np.asarray(row["image"]), np.asarray(result.image))
        check_labels(np.asarray(row["label"]), names, result)


def test_supervision_takes_the_segments() -> None:
    pytest.importorskip("supervision")
    result = RESULTS["a"]
    detections = result.to_supervision()
    assert list(detections["class_name"]) == [segment.name for segment in result]
    assert np.array_equal(detections.area, [segment.area for segment in result])
    for box, segment in zip(detections.xyxy, result, strict=True):
        left, top, right, bottom = segment.box
        assert list(box) == [left, top, right - 1, bottom - 1]  # supervision counts the last pixel in
    nothing = Segmentation(result.image, ("cat", "background"), np.ones((30, 40), int), np.zeros((2, 2, 2), np.float32))
    assert len(nothing.to_supervision()) == 0


def test_transformers_shape() -> None:
    result = RESULTS["a"]
    entries = result.to_transformers()
    assert [entry["label"] for entry in entries] == ["cat", "sky"]
    for entry in entries:
        assert entry["mask"].mode == "L" and 0 <= entry["score"] <= 1
        assert np.array_equal(np.asarray(entry["mask"]), mask(result, entry["label"]) * 255)


@pytest.mark.parametrize("name", ["voc", "cvat", "fiftyone", "huggingface"])
def test_too_many_classes_for_8_bits_are_refused(name: str, tmp_path: Path) -> None:
    classes = tuple(f"class {index}" for index in range(256))
    result = Segmentation(
        Image.new("RGB", (16, 16)), classes, np.arange(256).reshape(16, 16), np.zeros((256, 2, 2), np.float32)
    )
    with pytest.raises(ValueError, match="257 classes, the background included, do not fit into an 8-bit picture"):
        Exporter(tmp_path, [name]).add(result, "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["voc", "yolo", "fiftyone", "huggingface", "coco-panoptic", "cvat", "label-studio"])
def test_an_earlier_run_is_replaced_whole_or_refused(name: str, tmp_path: Path) -> None:
    def write(stems: list[str], overwrite: bool) -> set[Path]:
        exporter = Exporter(tmp_path, [name], overwrite=overwrite)
        for stem in stems:
            exporter.add(RESULTS["a"], stem)
        exporter.finish()
        return {path for path in tmp_path.rglob("*") if path.is_file()}

    alone = write(["a"], False)
    with pytest.raises(FileExistsError):
        write(["b"], False)
    assert write(["a", "b"], True) >= alone
    assert write(["a"], True) == alone
