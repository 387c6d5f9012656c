"""A Hugging Face data set of images and masks, in Parquet files that ``datasets.load_dataset`` reads."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from goca.export.data_set import DataSetFormat
from goca.export.label_map import LabelMap
from goca.export.parquet import require_pyarrow
from goca.render import MAX_CLASSES

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

ROWS_PER_FILE = 500


class HuggingFaceFormat(DataSetFormat):
    """``huggingface/data/train-00000.parquet`` and so on: ``image`` and ``label`` (grey, 0 is the background), both as
    PNG, and ``id2label.json``, the names by number.

    Raises:
        ValueError: pyarrow is not installed.
    """

    home = "huggingface"
    description = "id2label.json"
    patterns = ("data/train-[0-9]*.parquet",)

    most_classes = MAX_CLASSES - 1

    def __init__(self) -> None:
        require_pyarrow()
        self.label_map = LabelMap()
        self.rows: list[dict[str, Any]] = []
        self.files = 0

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        pictures = {"image": result.image, "label": self.label_map.grey(result)}
        self.rows.append({key: {"bytes": _png(each), "path": f"{stem}.png"} for key, each in pictures.items()})
        return self._write(folder) if len(self.rows) == ROWS_PER_FILE else {}

    def finish(self, folder: Path) -> Files:
        files = self._write(folder) if self.rows or not self.files else {}
        path = folder / self.home / self.description
        names = {str(index): name for index, name in enumerate(self.label_map.classes)}
        path.write_text(json.dumps(names, ensure_ascii=False) + "\n", encoding="utf-8")
        return {**files, "huggingface names": path}

    def _write(self, folder: Path) -> Files:
        import pyarrow as pa
        from pyarrow import parquet

        path = folder / self.home / "data" / f"train-{self.files:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        features = {key: {"_type": "Image"} for key in ("image", "label")}
        note = json.dumps({"info": {"features": features}})
        schema = pa.schema({"image": picture, "label": picture}, metadata={"huggingface": note})
        parquet.write_table(pa.Table.from_pylist(self.rows, schema=schema), path)
        self.rows, self.files = [], self.files + 1
        return {f"huggingface {self.files - 1}": path}


def _png(picture: Image.Image) -> bytes:
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
