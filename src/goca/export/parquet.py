"""Parquet tables with one row per image: path, height, width, classes, labels (an indexed PNG), rle (COCO run lengths
by class, JSON), notes, error (empty, or why the image has no segmentation)."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goca.export.registry import Format
from goca.render import run_lengths
from goca.storage.atomic import is_scratch

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

ROWS_PER_FILE = 1000
Row = dict[str, Any]


class ParquetFormat(Format):
    """``segmentations-00000.parquet`` and so on, 1,000 images each; ``path`` is an image's stem.

    Raises:
        ValueError: pyarrow is not installed.
    """

    def __init__(self) -> None:
        require_pyarrow()
        self.rows: list[Row] = []
        self.files = 0

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        self.rows.append(make_row(stem, result))
        return self._write(folder) if len(self.rows) == ROWS_PER_FILE else {}

    def finish(self, folder: Path) -> Files:
        return self._write(folder) if self.rows or not self.files else {}

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        return sorted(folder.glob("segmentations-[0-9]*.parquet"))

    def _write(self, folder: Path) -> Files:
        import pyarrow as pa
        from pyarrow import parquet

        path = folder / f"segmentations-{self.files:05d}.parquet"
        parquet.write_table(pa.Table.from_pylist(self.rows, schema=schema()), path)
        self.rows, self.files = [], self.files + 1
        return {f"parquet {self.files - 1}": path}


def require_pyarrow() -> None:
    """Raise ``ValueError`` where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueError("Parquet files need pyarrow; pip install pyarrow") from None


def make_row(path: str, result: Segmentation) -> Row:
    """The row of a segmented image."""
    labels = BytesIO()
    result.label_image().save(labels, "PNG")
    masks = {name: run_lengths(result.labels == index) for index, name in enumerate(result.classes)}
    return {
        "path": path,
        "height": result.image.height,
        "width": result.image.width,
        "classes": list(result.classes),
        "labels": labels.getvalue(),
        "rle": json.dumps(masks),
        "notes": list(result.notes),
        "error": "",
    }


def make_failed_row(path: str, error: str) -> Row:
    """The row of an image that could not be segmented."""
    return {
        "path": path,
        "height": 0,
        "width": 0,
        "classes": [],
        "labels": b"",
        "rle": "",
        "notes": [],
        "error": error,
    }


def earlier_tables(folder: Path) -> list[Path]:
    """The tables of an earlier run, where the folder holds nothing else.

    Raises:
        FileExistsError: it does.
    """
    from pyarrow import ArrowException, parquet

    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in found:
        try:
            ours = parquet.read_schema(path).names == schema().names
        except (OSError, ValueError, ArrowException):
            ours = False
        if not ours and not is_scratch(path):
            raise FileExistsError(f"{folder} holds {path.name}, which goca did not write; name a new folder with --out")
    return [path for path in found if not is_scratch(path)]


def schema() -> Any:
    """The columns in order with their types, which a table of failed images alone does not tell."""
    import pyarrow as pa

    text, words, number = pa.string(), pa.list_(pa.string()), pa.int64()
    kinds = {"path": text, "height": number, "width": number, "classes": words, "labels": pa.binary()}
    return pa.schema(kinds | {"rle": text, "notes": words, "error": text})
