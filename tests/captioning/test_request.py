"""What models are asked."""

from __future__ import annotations

import pytest

from goca.captioning.request import REQUEST, write_question
from goca.datasets import open_dataset
from goca.datasets.base import Dataset, Sample


class Empty(Dataset):
    """A data set of one class and no image."""

    classes = ((), ("ours", "other"))
    names = ()

    def __init__(self, key: str) -> None:
        self.key = key  # type: ignore[misc]

    def __getitem__(self, index: int) -> Sample:
        raise IndexError(index)


def test_the_plain_question_is_the_same_for_all() -> None:
    assert write_question() == write_question("plain", Empty("voc")) == REQUEST


def test_the_published_question_lists_the_published_words_and_a_limit() -> None:
    question = write_question("published", Empty("voc"))
    assert "at most 20 words" in question and ": aeroplane, bicycle, " in question and "ours" not in question
    assert "foreground" in question and "background" in question
    assert "at most 35 words" in write_question("published", Empty("context"))
    assert write_question("published", Empty("coco-stuff")).count("furniture") == 1


def test_other_data_sets_are_asked_about_by_their_own_words() -> None:
    scenes = open_dataset("scenes", limit=1)
    assert f": {', '.join(scenes.class_names)}. " in write_question("published", scenes)
    assert ": ours. " in write_question("published", Empty("folder"))


def test_a_question_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="lists the classes of a data set; name it with --dataset"):
        write_question("published")
    with pytest.raises(ValueError, match=r"unknown question 'paper'.*; choose one of plain, published"):
        write_question("paper")
