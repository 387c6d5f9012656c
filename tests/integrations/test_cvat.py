"""CVAT's automatic annotation, through the driver and the command line's loader of the real SDK; only the server is a
stand-in."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("cvat_sdk", reason="the CVAT SDK is not installed (pip install -e '.[test]')")

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk import models
from cvat_sdk.auto_annotation import driver
from cvat_sdk.masks import decode_mask

from goca import Segmenter
from goca.datasets.scenes import make_scene
from goca.integrations import cvat

SCENE = make_scene(seed=2026, index=0)
CLASSES = list(SCENE.classes)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("scenes-dit")


class Server:
    """Takes what the driver uploads; the task has one image and the labels that are given."""

    def __init__(self, labels: list[str], monkeypatch: pytest.MonkeyPatch, kind: str = "any") -> None:
        self.uploaded: list[Any] = []
        self.logger = logging.getLogger("cvat")
        self.tasks = SimpleNamespace(api=SimpleNamespace(partial_update_annotations=self.upload))
        sample = SimpleNamespace(
            frame_name="a.png", frame_index=3, media=SimpleNamespace(load_image=lambda: SCENE.image)
        )
        known = [
            models.Label(name=name, id=100 + number, type=kind, attributes=[], sublabels=[])
            for number, name in enumerate(labels)
        ]
        task = SimpleNamespace(labels=known, samples=[sample])
        monkeypatch.setattr(driver, "TaskDataset", lambda *_args, **_options: task)

    def upload(self, action: str, task: int, patched_labeled_data_request: Any) -> None:
        assert (action, task) == ("create", 42)
        self.uploaded = list(patched_labeled_data_request.shapes)


def test_masks_of_a_task(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(CLASSES, monkeypatch, "mask")
    cvataa.annotate_task(server, 42, cvat.DetectionFunction(segmenter, CLASSES))
    expected = segmenter(SCENE.image, CLASSES)
    assert len(server.uploaded) == len(list(expected)) > 1
    for shape, segment in zip(server.uploaded, expected, strict=True):
        assert (shape.label_id, shape.frame, str(shape.type)) == (100 + CLASSES.index(segment.name), 3, "mask")
        mask = decode_mask(shape.points, image_width=SCENE.image.width, image_height=SCENE.image.height)
        assert np.array_equal(mask, segment.mask)


def test_polygons_cover_the_masks(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(CLASSES, monkeypatch, "polygon")
    cvataa.annotate_task(server, 42, cvat.DetectionFunction(segmenter, CLASSES), conv_mask_to_poly=True)
    drawn = {name: np.zeros((SCENE.image.height, SCENE.image.width), dtype=bool) for name in CLASSES}
    for shape in server.uploaded:
        corners = np.array(shape.points).reshape(-1, 2) * 8
        picture = Image.new("1", (SCENE.image.width * 8, SCENE.image.height * 8))
        ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], fill=1)
        drawn[CLASSES[shape.label_id - 100]] |= np.asarray(picture)[4::8, 4::8]
    for segment in segmenter(SCENE.image, CLASSES):
        assert np.array_equal(drawn[segment.name], segment.mask)


def test_only_what_is_confident_enough(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    confidences = [segment.confidence for segment in segmenter(SCENE.image, CLASSES)]
    least = sorted(confidences)[1]
    server = Server(CLASSES, monkeypatch)
    cvataa.annotate_task(server, 42, cvat.DetectionFunction(segmenter, CLASSES), conf_threshold=least)
    assert len(server.uploaded) == len(confidences) - 1


def test_synonyms_are_one_label_and_the_background_is_none(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing, other, *rest = CLASSES
    classes, options = f"{thing}|{other}", {"background": rest or ["a"], "threshold": 0.5}
    server = Server([thing], monkeypatch)
    cvataa.annotate_task(server, 42, cvat.DetectionFunction(segmenter, classes, **options))
    (shape,), (segment,) = server.uploaded, segmenter(SCENE.image, classes, **options)
    assert shape.label_id == 100
    mask = decode_mask(shape.points, image_width=SCENE.image.width, image_height=SCENE.image.height)
    assert np.array_equal(mask, segment.mask) and not mask.all()


def test_labels_that_the_task_lacks_are_refused_by_cvat(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(["another"], monkeypatch)
    with pytest.raises(cvataa.BadFunctionError, match=CLASSES[0]):
        cvataa.annotate_task(server, 42, cvat.DetectionFunction(segmenter, CLASSES))


def test_create_takes_the_parameters_of_the_command_line(dit_folder: Path) -> None:
    function = cvat.create(classes="cat, grass|lawn", model=str(dit_folder), preset="vanilla", fast=True)
    assert [(label.name, label.id, str(label.type)) for label in function.spec.labels] == [
        ("cat", 0, "mask"),
        ("grass", 1, "mask"),
    ]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"classes": ""}, "class"), ({"classes": "cat", "model": "nope"}, "unknown model 'nope'")],
)
def test_bad_parameters_are_refused(parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cvat.create(**parameters)
