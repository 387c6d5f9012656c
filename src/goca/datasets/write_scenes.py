"""Scenes as files: the folder data set of a series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from goca.datasets.scenes import CLASS_NAMES, MIN_SIZE, make_scene
from goca.export.folder import CAPTIONS, earlier_dataset, write_classes, write_image, write_labels
from goca.ranges import LARGEST_SIDE, check_seed, check_whole
from goca.storage.atomic import remove_leftovers, staged_folder
from goca.storage.captions import save_captions
from goca.storage.outputs import refuse_existing


def write_scenes(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 128,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the first ``count`` scenes of a series with their masks and captions, see :mod:`goca.export.folder`: all
    of them or, after an error, none.

    Args:
        folder: must not hold a data set yet, unless ``overwrite`` is set.
        seed: of the series.
        size: side in pixels.
        overwrite: replace the data set that an earlier run wrote.
        progress: gets (scenes done, scenes in all).

    Raises:
        ValueError: a number out of range.
        FileExistsError: the folder holds a data set, or pictures that goca did not write. OSError: it cannot be
            written to.
    """
    check_seed(seed)
    check_whole("the number of scenes", count, 1)
    check_whole("the size of the scenes", size, MIN_SIZE, LARGEST_SIDE)
    folder = Path(folder)
    earlier = earlier_dataset(folder)
    refuse_existing(earlier, overwrite)
    remove_leftovers(folder, folder.parent)
    captions = {}
    with staged_folder(folder, overwrite=overwrite, stale=earlier) as scratch:
        for index in range(count):
            scene, name = make_scene(seed, index, size), f"{index:05d}"
            write_image(scratch, name, scene.image)
            write_labels(scratch, name, scene.labels, CLASS_NAMES)
            captions[f"{name}.png"] = scene.caption
            progress(index + 1, count)
        write_classes(scratch, CLASS_NAMES)
        save_captions(scratch / CAPTIONS, captions)
