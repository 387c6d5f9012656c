"""Output formats: what each writes, several at once, and formats of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from pycocotools import mask as coco_mask

from goca import Segmentation, export
from goca.datasets.folder import Folder
from goca.export import DEFAULT_FORMATS, FORMATS, Exporter, Files, Format


def segmentation(seed: int, classes: tuple[str, ...]) -> Segmentation:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), (6, 9))
    labels[0, : len(classes)] = range(len(classes))
    image = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return Segmentation(image, classes, labels, rng.uniform(0, 1, (len(classes), 3, 3)).astype(np.float32))


RESULTS = {"a": segmentation(0, ("cat", "sky")), "b": segmentation(1, ("sky", "tree", "background"))}


@pytest.fixture
def own_formats() -> Iterator[None]:
    """Formats that a test registers are gone afterwards."""
    before = dict(FORMATS)
    yield
    FORMATS.clear()
    FORMATS.update(before)


def write(folder: Path, *formats: str) -> Files:
    exporter = Exporter(folder, formats)
    files: Files = {}
    for stem, result in RESULTS.items():
        files |= {f"{stem} {key}": path for key, path in exporter.add(result, stem).items()}
    return files | exporter.finish()


def test_every_path_that_a_format_returns_is_a_file_and_nothing_else_is_there(tmp_path: Path) -> None:
    for name in FORMATS:
        files = write(tmp_path / name, name)
        found = {path for path in (tmp_path / name).rglob("*") if path.is_file()}
        assert found == set(files.values()) and len(files) == len(found) > 0


def test_saving_writes_the_default_formats(tmp_path: Path) -> None:
    files = RESULTS["a"].save(tmp_path / "saved", "a")
    assert list(files) == ["labels", "overlay", "heat cat", "heat sky", "json"]
    exported = Exporter(tmp_path / "exported", DEFAULT_FORMATS).add(RESULTS["a"], "a")
    assert {key: path.read_bytes() for key, path in files.items()} == {
        key: path.read_bytes() for key, path in exported.items()
    }
    assert set(RESULTS["a"].save(tmp_path / "one", "a", ["labels"])) == {"labels"}


def test_a_folder_data_set_can_be_read_again(tmp_path: Path) -> None:
    write(tmp_path, "folder")
    dataset = Folder(tmp_path)
    assert dataset.class_names == ("background", "cat", "sky", "tree")
    for sample, (stem, result) in zip((dataset[0], dataset[1]), RESULTS.items(), strict=True):
        assert sample.name == f"{stem}.png"
        assert np.array_equal(np.asarray(sample.image), np.asarray(result.image))
        names = np.array(dataset.class_names)[sample.labels]
        assert np.array_equal(names, np.array(result.classes)[result.labels])
    assert [dataset[index].caption for index in (0, 1)] == ["cat, sky", "sky, tree"]


def test_coco_annotations_hold_the_masks(tmp_path: Path) -> None:
    coco = json.loads(write(tmp_path, "coco")["coco"].read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    files = {each["id"]: each["file_name"] for each in coco["images"]}
    assert files == {0: "a.png", 1: "b.png"} and len(coco["annotations"]) == 5
    assert [each["id"] for each in coco["annotations"]] == [1, 2, 3, 4, 5]
    for each in coco["annotations"]:
        result = RESULTS[Path(files[each["image_id"]]).stem]
        expected = result.labels == result.classes.index(names[each["category_id"]])
        assert np.array_equal(coco_mask.decode(each["segmentation"]), expected)
        assert each["area"] == expected.sum() and each["iscrowd"] == 0


def test_parquet_rows_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.export.parquet.ROWS_PER_FILE", 1)
    files = write(tmp_path, "parquet")
    assert {path.name for path in files.values()} == {"segmentations-00000.parquet", "segmentations-00001.parquet"}
    rows = parquet.read_table(tmp_path).to_pylist()
    assert [row["path"] for row in rows] == ["a", "b"]
    for row, result in zip(rows, RESULTS.values(), strict=True):
        assert np.array_equal(np.asarray(Image.open(BytesIO(row["labels"]))), result.labels)
        assert (row["classes"], row["error"]) == (list(result.classes), "")


def test_formats_of_ones_own(tmp_path: Path, own_formats: None) -> None:
    @export.register("sizes")
    def write_size(result: Segmentation, folder: Path, stem: str) -> Files:
        (folder / f"{stem}.txt").write_text(f"{result.image.size}")
        return {"size": folder / f"{stem}.txt"}

    @export.register("count")
    class Count(Format):
        def __init__(self) -> None:
            self.count = 0

        def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
            self.count += 1
            return {}

        def finish(self, folder: Path) -> Files:
            (folder / "count.txt").write_text(f"{self.count}")
            return {"count": folder / "count.txt"}

    files = write(tmp_path, "sizes", "count")
    assert {key: path.read_text() for key, path in files.items()} == {
        "a size": "(9, 6)",
        "b size": "(9, 6)",
        "count": "2",
    }


def test_of_several_formats_either_all_are_written_or_none(tmp_path: Path, own_formats: None) -> None:
    @export.register("broken")
    def fail(result: Segmentation, folder: Path, stem: str) -> Files:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        RESULTS["a"].save(tmp_path, "a", ["labels", "broken"])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown format 'lables' \(did you mean 'labels'\?\); choose one of labels,"):
        RESULTS["a"].save(tmp_path / "x", formats=["lables"])
    assert not (tmp_path / "x").exists()
