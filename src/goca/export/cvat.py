"""CVAT's import format "Segmentation mask 1.1"."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from goca.export.label_map import LabelMap
from goca.export.registry import Format
from goca.export.voc import LABELS, LISTS, describe_label_map
from goca.render import MAX_CLASSES
from goca.storage.atomic import replace_file

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

CVAT = "cvat.zip"


class CvatFormat(Format):
    """``cvat.zip``: masks in their classes' colours, the list of images and ``labelmap.txt``, without the images, which
    are in CVAT already under the same stems. CVAT has no label for ignored pixels; they are left without one, as the
    background's are."""

    most_classes = MAX_CLASSES - 1

    def __init__(self) -> None:
        self.label_map = LabelMap()
        self.stems: list[str] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open until finish
        self._zip = zipfile.ZipFile(self._file, "w")

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        picture = BytesIO()
        colours = self.label_map.picture(result).convert("RGB")
        colours.paste(self.label_map.colours[0], mask=Image.fromarray(result.ignored))
        colours.save(picture, "PNG")
        self._write(f"{LABELS}/{stem}.png", picture.getvalue())
        self.stems.append(stem)
        return {}

    def finish(self, folder: Path) -> Files:
        self._write(f"{LISTS}/default.txt", "".join(f"{stem}\n" for stem in self.stems).encode())
        self._write("labelmap.txt", describe_label_map(self.label_map).encode())
        self._zip.close()
        self._file.seek(0)

        def copy(path: Path) -> None:
            with path.open("wb") as target:
                shutil.copyfileobj(self._file, target)

        replace_file(folder / CVAT, copy)
        self._file.close()
        return {"cvat": folder / CVAT}

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        return [path for path in (folder / CVAT,) if path.exists()]

    def _write(self, name: str, content: bytes) -> None:
        self._zip.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # no date: equal runs, equal bytes
