"""Images with the names of what is in them and, if wanted, of what is not: what a user's list of classes is like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from goca.classes import BACKGROUND, VOID
from goca.datasets import open_dataset
from goca.datasets.base import Dataset, Sample
from goca.ranges import check_limit, check_seed
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.text.prompt import build_prompt
from goca.types import Prompt

DEFAULT_SCENES = 200


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image and the classes that are looked for in it.

    Attributes:
        index: in the data set.
        sample: with its target labels, indices into ``classes``.
        classes: one name per class of the data set.
        names: what is looked for, in random order.
        present: those of them that the target has.
    """

    index: int
    sample: Sample
    classes: tuple[str, ...]
    names: tuple[str, ...]
    present: frozenset[str]

    def truth(self, name: str) -> Bool[np.ndarray, "height width"]:
        """The true mask of a class."""
        return self.sample.labels == self.classes.index(name)

    @property
    def counted(self) -> Bool[np.ndarray, "height width"]:
        """The pixels whose class somebody said."""
        return self.sample.labels != VOID

    def iou(self, result: Segmentation, name: str) -> float:
        """IoU of a class's mask with the true one, over the pixels that count; 0 where neither has any."""
        mask = result.labels == result.classes.index(name) if name in result.classes else np.zeros_like(self.counted)
        mask, truth = mask & self.counted, self.truth(name)
        union = np.count_nonzero(mask | truth)
        return np.count_nonzero(mask & truth) / union if union else 0.0


def open_images(
    dataset: str, root: str | Path | None = None, split: str | None = None, limit: int | None = None, seed: int = 0
) -> tuple[Dataset, int]:
    """A data set and how many of its images are taken.

    Args:
        seed: series of scenes.

    Raises:
        ValueError: an unknown or missing data set, or no image.
    """
    check_seed(seed)
    limit = check_limit(limit)
    options: dict[str, Any] = {"seed": seed, "limit": limit or DEFAULT_SCENES} if dataset == "scenes" else {}
    opened = open_dataset(dataset, root=root, split=split, **options)
    if not len(opened):
        raise ValueError(f"{opened.key} holds no images; check its folder and split")
    return opened, min(limit or len(opened), len(opened))


def name_image(dataset: Dataset, index: int, extras: Sequence[int], seed: int = 0) -> NamedImage:
    """Image ``index`` with the names of its classes and ``extras[index % len(extras)]`` other classes of the data set,
    in an order that depends on ``seed`` and ``index``.

    Raises:
        ValueError: the image cannot be read, or none of its classes has a name.
    """
    sample, words = dataset[index], dataset.classes
    present = [value for value in np.unique(sample.labels[sample.labels != VOID]).tolist() if words[value]]
    if not present:
        raise ValueError(f"{sample.name} has no class that could be named")
    absent = [value for value in range(len(words)) if words[value] and value not in present]
    random = np.random.default_rng((seed, index))
    chosen = random.permutation(absent)[: extras[index % len(extras)]].tolist()
    names = tuple(words[value][0] for value in random.permutation(present + chosen).tolist())
    return NamedImage(index, sample, dataset.class_names, names, frozenset(words[value][0] for value in present))


def prompt_for(segmenter: Segmenter, image: NamedImage, has_background: bool) -> Prompt:
    """The prompt that lists an image's names, whether or not an embedded model knows the words."""
    backbone = segmenter.model.backbone
    background = [BACKGROUND] if has_background else []
    return build_prompt(list(image.names), backbone.token_spans, background=background, max_length=backbone.max_tokens)


def each_image(
    dataset: Dataset, count: int, extras: Sequence[int], seed: int
) -> Iterator[NamedImage | tuple[str, str]]:
    """Every image with its names; (its name, the reason) where it cannot be read."""
    for index in range(count):
        try:
            yield name_image(dataset, index, extras, seed)
        except (ValueError, OSError) as error:
            yield dataset.names[index], str(error)
