"""Data sets in their official layouts on disk: ``open_dataset("voc", "/data", "val")[0].labels``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goca.datasets.ade20k import Ade20k
from goca.datasets.base import Dataset
from goca.datasets.camvid import Camvid
from goca.datasets.cityscapes import Cityscapes
from goca.datasets.coco_object import CocoObject
from goca.datasets.coco_stuff import CocoStuff
from goca.datasets.context import Context
from goca.datasets.folder import Folder
from goca.datasets.scenes import Scenes
from goca.datasets.voc import Voc
from goca.lookup import look_up

DATASETS: dict[str, Callable[..., Dataset]] = {
    dataset.key: dataset
    for dataset in (Scenes, Voc, Context, CocoObject, CocoStuff, Cityscapes, Ade20k, Camvid, Folder)
}


def open_dataset(key: str, root: str | Path | None = None, split: str | None = None, **options: Any) -> Dataset:
    """Open a data set; images are read one by one when they are asked for.

    Args:
        key: one of :data:`DATASETS`.
        root: folder of its files; what it must hold is said in the data set's class. ``scenes`` has none.
        split: ``train``, ``val`` and so on; by default ``val`` where there are splits.
        options: of ``scenes``: ``seed``, ``limit``, ``size``.

    Raises:
        ValueError: unknown data set or split, or a file that is missing or damaged; the message says where to get it.
    """
    return look_up(DATASETS, key, "data set")(root, split, **options)
