"""What captions are asked for, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goca.classes import BACKGROUND
from goca.datasets.base import VOID, Dataset, Sample
from goca.datasets.published import PUBLISHED_KEYS, published_classes
from goca.lookup import look_up

REQUEST = (
    "List what this picture shows as one line of nouns separated by commas, the most prominent thing first. "
    "Use short everyday nouns in the singular, without adjectives, numbers or articles, each thing once. "
    "Name the surroundings too, such as wall, floor, sky, road or grass. "
    "Where you name a part or a belonging of something, put both into one pair of parentheses. "
    "Example: (person, clothes), (car, wheel), tree, road, sky. "
    "Answer with that line alone."
)


PUBLISHED_REQUEST = (
    "Describe this picture in one line of at most {words} words: nouns separated by commas, without adjectives or "
    "numbers. First name the things in the foreground, then what is in the background, such as sky, wall or grass. "
    "Name each thing of the following list that you see by the list's own word, and other things by theirs: {classes}. "
    "Put the parts of one thing into one pair of parentheses, such as (person, clothes). "
    "Answer with that line alone."
)
QUESTIONS = ("plain", "published")


def write_question(question: str = "plain", dataset: Dataset | None = None) -> str:
    """What a model is asked about every image.

    ``published`` asks what the published captions were asked for, in our words: it lists the data set's classes (by
    their published names where there are any), asks for foreground and background, and allows 20 words, on Context 35.

    Raises:
        ValueError: unknown question, or ``published`` without a data set.
    """
    if look_up(QUESTIONS, question, "question") == "plain":
        return REQUEST
    if dataset is None:
        raise ValueError("the published question lists the classes of a data set; name it with --dataset")
    classes = published_classes(dataset.key) if dataset.key in PUBLISHED_KEYS else dataset.classes
    names = dict.fromkeys(words[0] for words in classes if words)
    return PUBLISHED_REQUEST.format(words=35 if dataset.key == "context" else 20, classes=", ".join(names))


@dataclass(frozen=True)
class Reply:
    """The words of whoever was asked, and the tokens they are charged for.

    Attributes:
        problem: why there are no words, where that is known.
        final: asking again makes no sense.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    problem: str = ""
    final: bool = False


class SourceError(OSError):
    """Whoever is asked cannot answer at all, so that asking about further images makes no sense."""


def name_classes(dataset: Dataset, sample: Sample) -> str:
    """The caption of an oracle: the names of the classes that the target labels have, in the data set's order."""
    present = [int(index) for index in np.unique(sample.labels) if index != VOID]
    names = [dataset.class_names[index] for index in present if dataset.classes[index]]
    return ", ".join(names) or BACKGROUND
