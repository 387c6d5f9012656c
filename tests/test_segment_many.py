"""Segmenting many images as a library call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goca import Segmenter
from goca.segment_many import segment_many


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
    assert steps == [(0, 2), (1, 2)]
    assert [path.name for each in saved.images for path in each.files.values()] == [
        "cat_labels.png",
        "cat-2_labels.png",
    ]
    assert saved.files == {"coco": tmp_path / "out/annotations.json"}
    for image, each in zip(images, saved.images, strict=True):
        expected = segmenter(image, ["cat", "sky"], threshold=0.4)
        assert each.image == image and each.areas == expected.areas and list(each.areas)[-1] == "background"
        assert np.array_equal(np.asarray(Image.open(each.files["labels"])), expected.labels)


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
