"""The scenes: repeatable, labelled everywhere, never seen in training."""

import numpy as np
import pytest

from goca.datasets.scenes import CLASS_NAMES, LOWER, OBJECTS, UPPER, make_scene
from goca.embedded.data import TRAINING_SEED


def test_a_scene_depends_on_its_seed_and_index_only() -> None:
    first, again, other = make_scene(3, 7), make_scene(3, 7), make_scene(3, 8)
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert np.array_equal(first.labels, again.labels)
    assert first.classes == again.classes
    assert not np.array_equal(np.asarray(first.image), np.asarray(other.image))


@pytest.mark.parametrize("size", [64, 128, 192])
def test_labels_and_caption_name_the_same_classes(size: int) -> None:
    for index in range(20):
        scene = make_scene(0, index, size)
        assert scene.image.size == (size, size)
        assert scene.labels.shape == (size, size)
        assert sorted(scene.classes) == sorted(CLASS_NAMES[i] for i in np.unique(scene.labels))
        assert scene.caption == ", ".join(scene.classes)


def test_every_scene_has_two_kinds_of_stuff_and_one_to_three_objects() -> None:
    for index in range(100):
        classes = set(make_scene(1, index).classes)
        assert len(classes & set(UPPER)) == 1
        assert len(classes & set(LOWER)) == 1
        assert 1 <= len(classes & set(OBJECTS)) <= 3


def test_every_class_occurs() -> None:
    assert set().union(*(make_scene(2, index).classes for index in range(150))) == set(CLASS_NAMES)


def test_masks_follow_the_picture() -> None:
    """Where the label changes from one row to the next, the colours change more than elsewhere."""
    jumps, flats = [], []
    for index in range(20):
        scene = make_scene(4, index)
        step = np.abs(np.diff(np.asarray(scene.image, np.float32), axis=0)).sum(axis=-1)
        edge = np.diff(scene.labels.astype(int), axis=0) != 0
        jumps.append(step[edge].mean())
        flats.append(step[~edge].mean())
    assert np.mean(jumps) > 3 * np.mean(flats)


def test_training_never_draws_from_a_series_that_users_ask_for() -> None:
    assert TRAINING_SEED > 1_000_000
