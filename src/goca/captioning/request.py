"""What captions are asked for, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goca.datasets.base import VOID, Dataset, Sample
from goca.text.align import BACKGROUND

REQUEST = (
    "List what this picture shows as one line of nouns separated by commas, the most prominent thing first. "
    "Use short everyday nouns in the singular, without adjectives, numbers or articles, each thing once. "
    "Name the surroundings too, such as wall, floor, sky, road or grass. "
    "Where you name a part or a belonging of something, put both into one pair of parentheses. "
    "Example: (person, clothes), (car, wheel), tree, road, sky. "
    "Answer with that line alone."
)


@dataclass(frozen=True)
class Reply:
    """The words of whoever was asked, and the tokens they are charged for."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SourceError(OSError):
    """Whoever is asked cannot answer at all, so that asking about further images makes no sense."""


def name_classes(dataset: Dataset, sample: Sample) -> str:
    """The caption of an oracle: the names of the classes that the target labels have, in the data set's order."""
    present = [int(index) for index in np.unique(sample.labels) if index != VOID]
    names = [dataset.class_names[index] for index in present if dataset.classes[index]]
    return ", ".join(names) or BACKGROUND
