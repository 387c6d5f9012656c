"""Protocol ``paper`` data set by data set: list, limit, words, thresholds and mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy import segmenter

from goca.datasets import DATASETS, open_dataset
from goca.datasets.base import VOID, Dataset, Sample
from goca.datasets.published import published_classes, published_indices
from goca.evaluation.experiment import Experiment
from goca.evaluation.runner import count_images
from goca.evaluation.task import Task
from goca.method import find_methods

ROWS = [
    ("voc", 3_000, 21),
    ("context", 3_000, 60),
    ("coco-object", 10_000, 81),
    ("coco-stuff", 10_000, 28),
    ("cityscapes", 1_000, 20),
    ("ade20k", 3_000, 151),
]


class Stub(Dataset):
    """A data set of that key with its own classes; every image holds one class, and void."""

    def __init__(self, key: str, count: int = 12_000) -> None:
        family: Any = DATASETS[key]
        self.key, self.classes = key, family.find_classes(family.__new__(family))
        self.names = tuple(f"{index}.jpg" for index in range(count))

    def __getitem__(self, index: int) -> Sample:
        labels = np.full((8, 8), index % len(self.classes), np.uint8)
        labels[0] = VOID
        return Sample(self.names[index], Image.new("RGB", (8, 8)), labels)


@pytest.mark.parametrize(("key", "limit", "classes"), ROWS)
def test_limit_words_thresholds_and_mean(key: str, limit: int, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.evaluation.experiment.open_dataset", lambda key, **options: Stub(key))
    experiment = Experiment.open(key, protocol="paper")
    assert (experiment.count, experiment.words, experiment.alignment) == (limit, "published", "published")
    assert experiment.dataset.classes == published_classes(key) and len(experiment.dataset.classes) == classes
    assert Experiment.open(key, protocol="paper", limit=7).count == 7
    plain = Experiment.open(key)
    assert (plain.count, plain.words, plain.alignment) == (12_000, "own", "exact")

    task = Task(experiment.dataset.classes, find_methods(["paper"]), experiment.protocol)
    assert task.protocol.thresholds_for(task.methods["paper"]) == tuple(round(0.1 * k, 1) for k in range(-4, 5))
    own = Stub(key)
    for index, place in enumerate(published_indices(key, own.class_names)):
        labels = experiment.dataset[index].labels
        assert (labels[1:] == place).all() and (labels[0] == VOID).all()

    answer = Experiment.open(key, protocol="paper", limit=3).run(segmenter(), task.methods)
    (result,) = answer["results"]
    occurring = sum(result["per_class"].values())
    assert result["miou"] == pytest.approx(occurring / classes, abs=1e-9) and not answer["failures"]
    assert (answer["words"], answer["image_list"]) == ("published", "all images")


def test_coco_stuff_counts_no_void_and_the_others_count_it_as_background() -> None:
    for key, _, _ in ROWS:
        sample = Stub(key)[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("goca.evaluation.experiment.open_dataset", lambda key, **options: Stub(key))
            experiment = Experiment.open(key, protocol="paper", limit=1)
        target = Task(experiment.dataset.classes, find_methods(["paper"]), experiment.protocol).target(sample)
        assert (target[0] == (VOID if key == "coco-stuff" else 0)).all()


def write_pascal(root: Path, year: str, names: dict[str, list[str]]) -> Path:
    """Pascal VOC's folders: pictures, masks, and lists by their path below ImageSets."""
    base = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "SegmentationClass"):
        (base / folder).mkdir(parents=True)
    for place, listed in names.items():
        path = base / "ImageSets" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(listed))
        for name in listed:
            Image.new("RGB", (8, 8)).save(base / "JPEGImages" / f"{name}.jpg")
            Image.new("L", (8, 8)).save(base / "SegmentationClass" / f"{name}.png")
    return base


def test_voc_goes_by_its_train_list(tmp_path: Path) -> None:
    write_pascal(tmp_path, "2012", {"Segmentation/train.txt": ["b", "a"], "Segmentation/val.txt": ["c"]})
    experiment = Experiment.open("voc", root=tmp_path, protocol="paper")
    assert experiment.dataset.names == ("b.jpg", "a.jpg")
    assert experiment.dataset.image_list == "ImageSets/Segmentation/train.txt"
    assert Experiment.open("voc", root=tmp_path).dataset.names == ("c.jpg",)


def test_context_goes_by_the_segmentation_list_and_the_caption_file(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    lists = {"Main/train.txt": ["a", "b", "c", "d"], "Main/val.txt": ["e"], "Segmentation/train.txt": ["c", "a", "b"]}
    base = write_pascal(tmp_path, "2010", lists)
    (base / "trainval").mkdir()
    for name in "abcde":
        scipy_io.savemat(base / "trainval" / f"{name}.mat", {"LabelMap": np.zeros((8, 8), np.uint16)})
    words = [name.replace(" ", "") for name in Stub("context", 1).class_names[1:]]
    (base / "labels.txt").write_text("\n".join(f"{number}: {word}" for number, word in enumerate(words, start=1)))
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({f"{name}.jpg": {"caption": "sky"} for name in "ab"}))

    whole = Experiment.open("context", root=tmp_path, protocol="paper")
    assert whole.dataset.names == ("c.jpg", "a.jpg", "b.jpg")
    assert whole.dataset.image_list == "ImageSets/Segmentation/train.txt"
    named = Experiment.open("context", root=tmp_path, protocol="paper", captions=str(captions))
    assert named.dataset.names == ("a.jpg", "b.jpg") and named.count == count_images(named.dataset, None) == 2
    assert named.dataset[0].name == "a.jpg"
    expected = "those of ImageSets/Segmentation/train.txt that captions.json names"
    assert named.dataset.image_list == expected and named.captions.missing == ()

    captions.write_text(json.dumps({f"{name}.jpg": {"caption": "sky"} for name in "adexyz"}))
    message = (
        r"captions.json names 5 images that context lacks \(ImageSets/Segmentation/train.txt\): d.jpg, e.jpg, x.jpg"
    )
    with pytest.raises(ValueError, match=message):
        Experiment.open("context", root=tmp_path, protocol="paper", captions=str(captions))
    (base / "ImageSets" / "Segmentation" / "train.txt").unlink()
    assert open_dataset("context", tmp_path, "segmentation-train").image_list == "ImageSets/Main/train.txt"
