"""NumPy archives of one image's result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation


def npz_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """Where :func:`write_npz` writes."""
    return {"npz": folder / f"{stem}.npz"}


def write_npz(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM.npz``: ``classes`` (names), ``labels`` [height, width] (indices into them), ``maps`` [classes, rows,
    columns] (float32 scores in [0, 1] on the model's grid) and ``margin`` [height, width] (float32), see
    :class:`goca.Segmentation`."""
    files = npz_files(folder, stem, result.classes)
    smallest = np.min_scalar_type(len(result.classes) - 1)
    np.savez_compressed(
        files["npz"],
        classes=np.array(result.classes),
        labels=result.labels.astype(smallest),
        maps=result.maps,
        margin=result.margin,
    )
    return files
