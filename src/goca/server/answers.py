"""What the service answers with: one file, a zip archive of several, or JSON."""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL.Image import Image
from starlette.responses import Response

from goca.explorer import payload
from goca.export import FORMATS, Exporter
from goca.guidance.generate import Generation
from goca.lookup import Names, look_up, read_names
from goca.messages import visible
from goca.render import class_colours
from goca.result import Segmentation
from goca.storage.names import file_stems

JSON_FORMAT, EXPLORER_FORMAT = "json", "explorer"
OTHER_COLOUR = [160, 160, 160]
MEMORY = Path("/dev/shm")  # a folder that lies in memory, where the system has one


@dataclass(frozen=True)
class Answer:
    """The body of a response, which a job can keep.

    Attributes:
        name: of the file that a browser saves; ``None`` for what is shown.
    """

    content: bytes
    media_type: str
    name: str | None = None

    def response(self) -> Response:
        """The response of HTTP."""
        headers = {}
        if self.name is not None:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(self.name)}"
        return Response(self.content, headers=headers, media_type=self.media_type)


def json_answer(value: Mapping[str, Any]) -> Answer:
    """JSON in ASCII."""
    return Answer(json.dumps(value).encode(), "application/json")


def read_formats(formats: Names) -> list[str]:
    """The formats of a request.

    Raises:
        ValueError: none, or an unknown one.
    """
    names = list(dict.fromkeys(read_names(formats, "format")))
    if names == [EXPLORER_FORMAT]:
        return names
    for name in names:
        look_up(FORMATS, name, "format")
    if not names:
        raise ValueError(f"name at least one format: {', '.join(FORMATS)}")
    return names


def segmentation_answer(result: Segmentation, formats: list[str], name: str, about: Mapping[str, Any]) -> Answer:
    """A segmentation in the wanted formats.

    Args:
        name: of the image's file; only what may stand in a name of a file is used of it.
        about: added to the JSON of format ``json`` alone.

    Raises:
        ValueError: a format that cannot hold this result. OSError: there is no room for its files.
    """
    if formats == [JSON_FORMAT]:
        return json_answer({**result.to_dict(), **about})
    stem = safe_stem(name)

    def write(folder: Path) -> None:
        Exporter(folder, formats).write_one(result, stem)

    return pack(write, stem)


def generation_answer(drawn: Generation, formats: list[str], about: Mapping[str, Any]) -> Answer:
    """A drawn image with its segmentation: JSON with the image as a data URI, or files with the image among them."""
    result = drawn.segmentation
    assert result is not None
    if formats == [EXPLORER_FORMAT]:
        shown = payload(result, title=drawn.prompt, facts=[(key, str(value)) for key, value in about.items()])
        return json_answer({"explorer": shown, "drawing": describe_steps(drawn)})
    if formats == [JSON_FORMAT]:
        return json_answer({**result.to_dict(), **about, "picture": png_uri(drawn.image), "notes": list(drawn.notes)})

    def write(folder: Path) -> None:
        Exporter(folder, formats).write_one(result, "drawn")
        drawn.image.save(folder / "drawn.png")

    return pack(write, "drawn")


def describe_steps(drawn: Generation) -> dict[str, Any]:
    """The image and the regions of each step, for the page: per pixel of the step's grid the class whose words have the
    largest mask, as base64 of one byte a pixel in reading order. What belongs to no class has the last number."""
    assert drawn.segmentation is not None
    classes = drawn.segmentation.classes
    belongs = [
        next((at for at, name in enumerate(classes) if word in name.split()), len(classes)) for word in drawn.words
    ]
    steps = []
    for step in drawn.steps:
        regions = step.regions[0]
        if regions is not None:
            cells = np.array(belongs, dtype=np.uint8)[regions.masks.argmax(dim=0).cpu().numpy()]
            text = base64.b64encode(cells.tobytes()).decode("ascii")
            steps.append({"timestep": step.timestep, "grid": list(cells.shape), "cells": text})
    names = [*map(visible, classes), "other words"]
    colours = [*map(list, class_colours(classes)), OTHER_COLOUR]
    return {"picture": png_uri(drawn.image), "names": names, "colours": colours, "steps": steps}


def explorer_answer(results: Mapping[str, Any], title: str, about: Mapping[str, Any]) -> Answer:
    """The data of the explorer page for results by name, or for the only one."""
    shown = results if len(results) > 1 else next(iter(results.values()))
    return json_answer({"explorer": payload(shown, title=title, facts=[(key, str(about[key])) for key in about])})


def png_uri(image: Image) -> str:
    """A picture as a PNG in a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def safe_stem(name: str) -> str:
    """A name for files from what a caller calls an image."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return file_stems([visible(last)])[0].strip(". ")[:80] or "image"


def pack(write: Callable[[Path], None], stem: str) -> Answer:
    """The only file that a function writes into a folder, or a zip archive of all of them.

    The folder lies in memory where the system has such folders, and is removed at once.
    """
    with tempfile.TemporaryDirectory(prefix="goca-", dir=MEMORY if MEMORY.is_dir() else None) as path:
        folder = Path(path) / "files"
        write(folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if len(files) == 1:
            kind = mimetypes.guess_type(files[0].name)[0] or "application/octet-stream"
            return Answer(files[0].read_bytes(), kind, files[0].name)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder).as_posix())
        return Answer(buffer.getvalue(), "application/zip", f"{stem}.zip")
