"""Segmenting many images as a library call."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from goca import Segmentation, Segmenter
from goca.image_files import find_images
from goca.image_texts import ImageText
from goca.segment_many import JOURNAL, segment_many


@pytest.fixture(scope="module")
def segmenter(dit_folder: Path) -> Segmenter:
    return Segmenter.from_pretrained(str(dit_folder), device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "one/cat.png", tmp_path / "two/cat.png"]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return [str(path) for path in paths]


def test_results_are_the_segmenters_own(segmenter: Segmenter, images: list[str], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    saved = segment_many(
        segmenter,
        images,
        ["cat", "sky"],
        tmp_path / "out",
        threshold=0.4,
        formats=["labels", "coco"],
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert [path.name for each in saved.images for path in each.files.values()] == [
        "cat_labels.png",
        "cat-2_labels.png",
    ]
    assert saved.files == {"coco": tmp_path / "out/annotations.json"}
    for image, each in zip(images, saved.images, strict=True):
        expected = segmenter(image, ["cat", "sky"], threshold=0.4)
        assert each.image == image and each.areas == expected.areas and list(each.areas)[-1] == "background"
        assert np.array_equal(np.asarray(Image.open(each.files["labels"])), expected.labels)


def test_pixels_below_a_margin_are_ignored_in_every_file(
    segmenter: Segmenter, images: list[str], tmp_path: Path
) -> None:
    (expected,) = segmenter(images[:1], ["cat", "sky"], ignore_below=0.2)
    assert 0 < expected.ignored.mean() < 1
    settings = {"formats": ["labels", "voc"], "ignore_below": 0.2}
    saved = segment_many(segmenter, images, ["cat", "sky"], tmp_path / "out", **settings)
    assert saved.images[0].areas == expected.areas
    labels = np.asarray(Image.open(saved.images[0].files["labels"]))
    assert np.array_equal(labels, expected.labels) and (labels == 255).any()
    voc = np.asarray(Image.open(tmp_path / "out/voc/SegmentationClass/cat.png"))
    assert np.array_equal(voc == 255, labels == 255)
    with pytest.raises(ValueError, match="ignore_below"):
        segment_many(segmenter, images, ["cat", "sky"], tmp_path / "out", resume=True, formats=["labels", "voc"])
    with pytest.raises(ValueError, match="ignore_below is a finite number from 0 to 1, not 2"):
        segment_many(segmenter, images, ["cat", "sky"], tmp_path / "new", ignore_below=2.0)
    assert not (tmp_path / "new").exists()


def test_a_bad_image_or_class_is_refused_before_anything_is_written(
    segmenter: Segmenter, images: list[str], tmp_path: Path
) -> None:
    for paths, classes, message in (
        ([*images, "gone.png"], ["cat", "sky"], "no such image file: gone.png"),
        (images, ["cat", "cat"], "cat"),
    ):
        with pytest.raises(ValueError, match=message):
            segment_many(segmenter, paths, classes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def files_of(folder: Path) -> dict[str, bytes]:
    """All files but the journal, whose lines hold no results."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def many_images(folder: Path, count: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return find_images([str(folder)])


def test_bad_images_are_listed_and_the_others_done(segmenter: Segmenter, tmp_path: Path) -> None:
    images = many_images(tmp_path / "in", 3)
    Path(images[1]).write_bytes(b"no image")
    saved = segment_many(segmenter, images, ["cat", "sky"], tmp_path / "out", formats=["labels", "voc"])
    assert [each.image for each in saved.images] == [images[0], images[2]]
    ((failed, reason),) = saved.failures
    assert failed == images[1] and "1.png" in reason
    assert (tmp_path / "out/voc/ImageSets/Segmentation/default.txt").read_text().split() == ["0", "2"]
    for image in images:
        Path(image).write_bytes(b"no image")
    with pytest.raises(ValueError, match="no image could be segmented"):
        segment_many(segmenter, images, ["cat", "sky"], tmp_path / "other")
    assert list(files_of(tmp_path / "other")) == []


def test_a_run_that_stops_goes_on_to_the_same_bytes(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many_images(tmp_path / "in", 5)
    formats = ["labels", "heat", "coco", "yolo", "label-studio"]
    segment_many(segmenter, images, "cat,sky", tmp_path / "whole", formats=formats)
    expected = files_of(tmp_path / "whole")
    segment_batch = Segmenter.segment_batch
    for stop in (1, 3):
        count = iter(range(stop))

        def stopping(self: Segmenter, *arguments: Any, left: Iterator[int] = count) -> list[Segmentation]:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return segment_batch(self, *arguments)

        monkeypatch.setattr(Segmenter, "segment_batch", stopping)
        with pytest.raises(KeyboardInterrupt):
            segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats, resume=stop > 1)
        monkeypatch.setattr(Segmenter, "segment_batch", segment_batch)
    with pytest.raises(ValueError, match="continue them with --resume"):
        segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats)
    with pytest.raises(ValueError, match="was made with other settings: seed was 0 and is now 1"):
        segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats, seed=1, resume=True)
    saved = segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats, resume=True)
    assert files_of(tmp_path / "out") == expected
    assert [each.image for each in saved.images] == images
    again = segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats, resume=True)
    assert again.images == saved.images and files_of(tmp_path / "out") == expected


def test_a_changed_image_is_noticed(segmenter: Segmenter, tmp_path: Path) -> None:
    images = many_images(tmp_path / "in", 2)
    segment_many(segmenter, images, "cat,sky", tmp_path / "out")
    Image.new("RGB", (9, 9)).save(images[0])
    with pytest.raises(ValueError, match=r"the image .*0\.png has changed since.*start anew with --overwrite"):
        segment_many(segmenter, images, "cat,sky", tmp_path / "out", resume=True)


def test_each_image_has_classes_of_its_own(segmenter: Segmenter, images: list[str], tmp_path: Path) -> None:
    texts = {images[0]: ImageText(("cat",)), images[1]: ImageText(("dog", "sky"), "a dog under the sky")}
    saved = segment_many(segmenter, images, texts, tmp_path / "out", formats=["labels", "coco"])
    assert [list(each.areas) for each in saved.images] == [["cat"], ["dog", "sky"]]
    expected = segmenter(images[1], ["dog", "sky"], caption="a dog under the sky")
    assert np.array_equal(np.asarray(Image.open(saved.images[1].files["labels"])), expected.labels)


def test_a_class_has_one_colour_in_all_images_and_formats(
    segmenter: Segmenter, images: list[str], tmp_path: Path
) -> None:
    texts = {images[0]: ImageText(("cat|kitten", "sky")), images[1]: ImageText(("sky", "tree", "cat"))}
    saved = segment_many(segmenter, images, texts, tmp_path, threshold=0.4, formats=["json", "labels", "voc"])
    rows = (tmp_path / "voc/labelmap.txt").read_text().splitlines()[2:]
    colours = {name: [int(part) for part in colour.split(",")] for name, colour, *_ in (row.split(":") for row in rows)}
    assert set(colours) == {"cat", "sky", "tree"}
    for each in saved.images:
        classes = json.loads(each.files["json"].read_text())["classes"]
        assert {entry["name"]: entry["colour"] for entry in classes[:-1]}.items() <= colours.items()
        flat = Image.open(each.files["labels"]).getpalette()
        assert flat is not None and flat[: 3 * len(classes)] == [part for entry in classes for part in entry["colour"]]
    streamed = segmenter(images, [["cat", "sky"], ["sky", "tree", "cat"]], threshold=0.4)
    first, second = (dict(zip(each.classes, each.colours, strict=True)) for each in streamed)
    assert all(second[name] == colour for name, colour in first.items())
    assert all(second[name] == tuple(colour) for name, colour in colours.items())


def test_a_stream_gives_what_single_calls_give(segmenter: Segmenter, images: list[str]) -> None:
    read: list[str] = []

    def source() -> Iterator[str]:
        for image in images:
            read.append(image)
            yield image

    stream = segmenter.stream(source(), ["cat", "sky"])
    assert read == []
    first = next(stream)
    assert read == images[:1]
    assert np.array_equal(first.labels, segmenter(images[0], ["cat", "sky"]).labels)
    assert len(list(stream)) == 1
    own = segmenter(images, [["cat"], ["dog", "sky"]], caption=[None, "a dog under the sky"])
    assert [result.classes for result in own] == [("cat",), ("dog", "sky")]
    with pytest.raises(ValueError, match="1 class lists do not fit 2 images"):
        segmenter(images, [["cat"]])


def test_a_batch_that_the_memory_does_not_hold_is_halved(
    segmenter: Segmenter, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = segmenter(images, "cat,sky", batch_size=2)
    encode = Segmenter.encode

    def small(self: Segmenter, pictures: Sequence[Image.Image], **options: bool) -> Any:
        if len(pictures) > 1:
            raise MemoryError
        return encode(self, pictures, **options)

    monkeypatch.setattr(Segmenter, "encode", small)
    for found, result in zip(segmenter(images, "cat,sky", batch_size=2), expected, strict=True):
        assert np.allclose(found.maps, result.maps, atol=1e-3)  # rounding, spread by the rescaling


def test_images_of_different_shapes_never_share_a_forward(segmenter: Segmenter, tmp_path: Path) -> None:
    images = many_images(tmp_path / "in", 2)
    Image.new("RGB", (20, 30), "green").save(images[1])
    shaped = Segmenter(segmenter.model, keep_aspect=True)
    assert shaped.forward_batch(4) == 1 and segmenter.forward_batch(4) == 4
    assert len(segment_many(shaped, images, "cat,sky", tmp_path / "out", batch_size=2).images) == 2
    assert len(list(shaped.stream(images, "cat,sky", batch_size=2))) == 2


def test_what_is_no_list_of_names_is_refused_in_a_sentence(images: list[str], dit_folder: Path) -> None:
    """In a process without the tests' checks of types, as users have it."""
    code = f"""
from goca import Segmenter
segmenter = Segmenter.from_pretrained({str(dit_folder)!r}, device="cpu")
for classes in (5, None, {{"cat": 1}}):
    try:
        segmenter({images[0]!r}, classes)
    except ValueError as error:
        assert "give the class names as a list of strings" in str(error), error
    else:
        raise AssertionError(classes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_may_come_from_a_generator(segmenter: Segmenter, images: list[str]) -> None:
    result = segmenter(images[0], (name for name in ("cat", "sky")))
    assert result.classes == ("cat", "sky")


class FullDisk:
    """A disk that takes so many pictures and no more: the next one stops half-way."""

    def __init__(self, pictures: int) -> None:
        self.left = pictures
        self.save = Image.Image.save

    def __call__(self, picture: Image.Image, path: Path, **options: Any) -> None:
        if self.left == 0:
            path.write_bytes(b"\x89PNG half")
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1
        self.save(picture, path, **options)


@pytest.mark.parametrize("left", [0, 3])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    images = many_images(tmp_path / "in", 3)
    formats = ["labels", "overlay", "coco"]
    segment_many(segmenter, images, "cat,sky", tmp_path / "whole", formats=formats)
    full = FullDisk(left)
    monkeypatch.setattr(Image.Image, "save", lambda picture, path, **options: full(picture, path, **options))
    with pytest.raises(OSError, match=r"cannot write to the folder .*No space left on device") as caught:
        segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats)
    assert ("1 of 3 images are whole" in str(caught.value)) == (left == 3) and "\n" not in str(caught.value)
    monkeypatch.undo()
    written = files_of(tmp_path / "out")
    assert bool(written) == bool(left) and all(name.startswith(("0_", ".goca-results")) for name in written)
    segment_many(segmenter, images, "cat,sky", tmp_path / "out", formats=formats, resume=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_full_disk_is_noticed_by_what_is_written_for_all_images(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many_images(tmp_path / "in", 2)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    options: dict[str, Any] = {"formats": ["labels", "coco"], "overwrite": True}
    for target in ("goca.segment_many.ResultStore.save", "goca.storage.journal.os.fsync"):
        with monkeypatch.context() as full:
            full.setattr(target, fail)
            with pytest.raises(OSError, match=r"cannot write to the folder .*No space left on device"):
                segment_many(segmenter, images, "cat,sky", tmp_path / "out", **options)
        resumed = options | {"overwrite": False, "resume": True}
        assert len(segment_many(segmenter, images, "cat,sky", tmp_path / "out", **resumed).images) == 2


@pytest.mark.parametrize("name", ["voc", "cvat", "fiftyone", "huggingface"])
def test_more_classes_than_a_format_holds_are_refused_before_anything_is_computed(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    images = many_images(tmp_path / "in", 2)
    texts = {
        image: ImageText(tuple(f"{part} {n}" for n in range(128))) for image, part in zip(images, "ab", strict=True)
    }
    monkeypatch.delattr(Segmenter, "segment_batch")
    with pytest.raises(ValueError, match=r"257 classes, .* pass at most 255, or take the format npz or coco"):
        segment_many(segmenter, images, texts, tmp_path / "out", formats=["json", name])
    assert not (tmp_path / "out").exists()
