"""A data set seen otherwise: by the published words, or some of its images alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from goca.datasets.base import VOID, Dataset, Sample
from goca.datasets.published import published_classes, published_indices


class PublishedWords(Dataset):
    """A data set with the classes and words of the published experiments, see :mod:`goca.datasets.published`.

    Raises:
        ValueError: a data set without published words.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.key, self.names = dataset, dataset.key, dataset.names
        self.classes = published_classes(dataset.key)
        self.image_list = dataset.image_list
        self.table = np.full(VOID + 1, VOID, np.uint8)
        indices = published_indices(dataset.key, dataset.class_names)
        self.table[: len(indices)] = indices

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return replace(sample, labels=self.table[sample.labels])

    def digest(self, index: int) -> str | None:
        return self.dataset.digest(index)


class Selection(Dataset):
    """The images of a data set whose names are among ``names``, in the data set's order.

    Args:
        by: what names them, for people.
    """

    def __init__(self, dataset: Dataset, names: Collection[str], by: str) -> None:
        self.dataset, self.key, self.classes = dataset, dataset.key, dataset.classes
        self.indices = [index for index, name in enumerate(dataset.names) if name in names]
        self.names = tuple(dataset.names[index] for index in self.indices)
        self.image_list = f"those of {dataset.image_list} that {by} names"

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def digest(self, index: int) -> str | None:
        return self.dataset.digest(self.indices[index])
