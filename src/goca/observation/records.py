"""Records of a forward as one ``.npz`` file, written layer by layer, so that memory holds one layer at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goca.maps.heads import projection_matrix
from goca.storage.atomic import staged_folder
from goca.storage.outputs import refuse_existing
from goca.types import LayerRecord

FIELDS = (
    "cross_query",
    "cross_key",
    "cross_value",
    "cross_mask",
    "reference",
    "self_query",
    "self_key",
    "output",
    "image_key",
)
"""The tensors of :class:`goca.types.CrossRecord` and :class:`goca.types.JointRecord`, with their shapes."""


class RecordFile:
    """Collects records in an open zip archive; ``numpy.load(path)["blocks.0/cross_query"]`` reads one array of it.

    Each record gives its :data:`FIELDS` that are there, as float32, ``grid`` (rows, columns), ``cross_scale`` and
    ``self_scale`` where they are not 1 / sqrt(dim), and ``projection`` [out_channels, channels], the bias-free weight
    that mixes the heads.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, record: LayerRecord) -> None:
        """Write one layer."""
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                self._write(record.name, field, _array(value))
        for field in ("cross_scale", "self_scale"):
            scale = getattr(record, field, None)
            if scale is not None:
                self._write(record.name, field, np.array(scale))
        self._write(record.name, "grid", np.array(record.grid))
        if record.projection is not None and record.cross_value is not None:
            self._write(record.name, "projection", _array(projection_matrix(record.projection, record.cross_value)))

    def _write(self, layer: str, field: str, array: np.ndarray) -> None:
        with self._archive.open(f"{layer}/{field}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, array, allow_pickle=False)


@contextmanager
def record_file(path: str | Path, *, overwrite: bool = False) -> Iterator[RecordFile]:
    """A file of records that appears whole at the end of the context, or not at all after an error.

    Raises:
        FileExistsError: it is there already, and ``overwrite`` is not set.
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    refuse_existing([path], overwrite)
    with (
        staged_folder(path.parent, overwrite=overwrite) as scratch,
        zipfile.ZipFile(scratch / path.name, "w") as archive,
    ):
        yield RecordFile(archive)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()
