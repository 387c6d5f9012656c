"""A tiny data set with a background, void, an image that cannot be read and one without objects; and its model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tiny
from PIL import Image

from goca import Segmenter
from goca.datasets.base import VOID, Dataset, Sample
from goca.evaluation.protocols import adapt_to, find_protocol
from goca.evaluation.task import Task
from goca.method import find_methods
from goca.models import wrap


class Toy(Dataset):
    """Images of 40 x 30 random colours whose true labels are rectangles of two of the classes."""

    key = "toy"
    classes = ((), ("cat",), ("dog", "hound"), ("grass", "lawn"), ("sky",))

    def __init__(self, count: int = 7, broken: tuple[int, ...] = (), background: bool = True) -> None:
        self.names = tuple(f"{index}.png" for index in range(count))
        self.broken = broken
        self.background = background
        if not background:
            self.classes = self.classes[1:]

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise ValueError(f"{self.names[index]} is damaged; get it again")
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        first, second = rng.choice(len(self.classes) - self.background, 2, replace=False) + self.background
        labels = np.full((30, 40), 0 if self.background else second, dtype=np.uint8)
        if index != 2:
            labels[5:25, 3:20] = first
            labels[8:30, 20:33] = second
        labels[:, 38:] = VOID
        return Sample(self.names[index], coarse.resize((40, 30), Image.Resampling.BICUBIC), labels)


def segmenter(family: str = "dit") -> Segmenter:
    """A tiny pipeline with random weights, its maps on a small grid."""
    model = wrap("tiny", tiny.FAMILIES[family].build())
    return Segmenter(replace(model, spec=replace(model.spec, output_grid=16, refine_order=1)))


def task(dataset: Toy, presets: str = "vanilla,paper", protocol: str = "paper", **options: object) -> Task:
    """The task of a run on the toy data set."""
    rules = adapt_to(find_protocol(protocol, "voc"), dataset)
    return Task(dataset.classes, find_methods(presets.split(",")), rules, **options)  # type: ignore[arg-type]
