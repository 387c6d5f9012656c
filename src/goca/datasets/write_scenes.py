"""Scenes as files: the folder data set of a series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from goca.datasets.scenes import CLASS_NAMES, MIN_SIZE, make_scene
from goca.export.folder import CAPTIONS, IMAGES, LABELS, write_classes, write_image, write_labels
from goca.ranges import LARGEST_SIDE, check_seed, check_whole
from goca.storage.atomic import cannot_write
from goca.storage.captions import save_captions


def write_scenes(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 128,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the first ``count`` scenes of a series with their masks and captions, see :mod:`goca.export.folder`.

    Args:
        folder: must not hold scenes yet.
        seed: of the series.
        size: side in pixels.
        progress: gets (scenes done, scenes in all).

    Raises:
        ValueError: a number out of range, or the folder holds scenes already. OSError: it cannot be written to.
    """
    check_seed(seed)
    check_whole("the number of scenes", count, 1)
    check_whole("the size of the scenes", size, MIN_SIZE, LARGEST_SIDE)
    folder = Path(folder)
    if (folder / IMAGES).is_dir() and any((folder / IMAGES).iterdir()):
        raise ValueError(f"{folder} already holds scenes; choose another folder with --out or remove it first")
    try:
        for part in (IMAGES, LABELS):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "choose another one with --out") from error
    captions = {}
    for index in range(count):
        scene, name = make_scene(seed, index, size), f"{index:05d}"
        write_image(folder, name, scene.image)
        write_labels(folder, name, scene.labels, CLASS_NAMES)
        captions[f"{name}.png"] = scene.caption
        progress(index + 1, count)
    write_classes(folder, CLASS_NAMES)
    save_captions(folder / CAPTIONS, captions)
