"""A folder of drawn images that can be continued: prompts from a table, labels and captions beside the images."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from goca.export.coco import CocoAnnotations
from goca.export.folder import (
    CAPTIONS,
    CLASSES,
    IMAGES,
    LABELS,
    shared_labels,
    write_classes,
    write_image,
    write_labels,
)
from goca.guidance.generate import Generation
from goca.messages import shorten
from goca.ranges import LARGEST_SEED, check_seed
from goca.storage.atomic import cannot_write, write_atomically
from goca.storage.captions import save_captions
from goca.storage.json_reader import read_json

SETTINGS = "settings.json"
PUBLISHED_COLUMNS = {"text": "prompt", "image_id": "name"}


@dataclass(frozen=True)
class Row:
    """A line of the table: its number in the file, and what to draw under which name."""

    line: int
    name: str
    prompt: str
    seed: int


def read_rows(path: str | Path, seed: int = 0) -> tuple[list[Row], list[str]]:
    """Rows of a CSV file with a column ``prompt`` and, where wanted, ``seed`` and ``name``; ``text`` and ``image_id``,
    as the published tables of prompts have them, stand for ``prompt`` and ``name``.

    Args:
        seed: for rows that give none.

    Returns:
        the good rows and one sentence for each bad one, with its line.

    Raises:
        ValueError: no such columns, no row, or no text. OSError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = name_columns(reader.fieldnames or ())
            if "prompt" not in reader.fieldnames:
                raise ValueError(f"{path} has no column 'prompt'; name the columns in its first line, e.g. prompt,seed")
            entries = [(reader.line_num, entry) for entry in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8 ({error}); export it again") from error
    rows: dict[str, Row] = {}
    bad: list[str] = []
    for number, (line, entry) in enumerate(entries):
        try:
            row = read_row(line, number, entry, seed)
            if row.name.casefold() in rows:
                raise ValueError(f"the name {row.name!r} is already taken")
        except ValueError as error:
            bad.append(f"line {line}: {error}")
        else:
            rows[row.name.casefold()] = row
    if not entries:
        raise ValueError(f"{path} has no line below its columns' names; add a prompt")
    return list(rows.values()), bad


def name_columns(names: Sequence[str]) -> list[str]:
    """Our names of columns for the published ones, which stay beside ours."""
    return [name if PUBLISHED_COLUMNS.get(name, name) in names else PUBLISHED_COLUMNS[name] for name in names]


def read_row(line: int, number: int, entry: dict[str | None, Any], seed: int) -> Row:
    """One row.

    Raises:
        ValueError: too many fields, no prompt, a seed that is no whole number, or a name that is no file name.
    """
    if None in entry:
        raise ValueError("it has more fields than there are columns; put a prompt with commas in quotes")
    prompt = (entry.get("prompt") or "").strip()
    if not prompt:
        raise ValueError("it has no prompt")
    written = (entry.get("seed") or "").strip()
    if written and not (written.isascii() and written.isdigit() and len(written) <= len(str(LARGEST_SEED))):
        raise ValueError(f"the seed {shorten(written)!r} is no whole number from 0 to {LARGEST_SEED}")
    name = (entry.get("name") or "").strip().removesuffix(".png") or f"{number:05d}"
    if Path(name).name != name or name.startswith("."):
        raise ValueError(f"the name {name!r} is no file name")
    return Row(line, name, prompt, check_seed(int(written)) if written else seed)


class DatasetFolder:
    """A folder data set (see :mod:`goca.export.folder`) of drawn images; without segmentations it has no labels and
    classes, with them also ``annotations.json`` (COCO).

    Captions are the prompts, with segmentations the classes that each names, so that an evaluation that reads captions
    as nouns between commas finds them all.

    Args:
        settings: of the run; kept in ``settings.json``.
        classes: of the labels, where there are any; those that the folder has already come first.

    Raises:
        ValueError: the folder is from a run with other settings, or holds something else. OSError: it cannot be
            written to.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], classes: Sequence[str] | None = None) -> None:
        self.folder, self.segments = folder, classes is not None
        before = check_settings(folder, settings)
        try:
            for part in (IMAGES, LABELS) if self.segments else (IMAGES,):
                (folder / part).mkdir(parents=True, exist_ok=True)
            write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
            if classes is not None:
                known = (folder / CLASSES).read_text(encoding="utf-8").splitlines() if before else []
                self.classes = list(dict.fromkeys([*known, *classes]))
                write_classes(folder, self.classes)
        except OSError as error:
            raise cannot_write(folder, error, "choose another one with --out") from error

    def has(self, row: Row) -> bool:
        """Whether the row's image is there.

        Raises:
            ValueError: an image of that name was drawn from another prompt or seed.
        """
        path = self.folder / IMAGES / f"{row.name}.png"
        if not path.exists():
            return False
        with Image.open(path) as image:
            told = image.info
        if (told.get("prompt"), told.get("seed")) != (row.prompt, str(row.seed)):
            raise ValueError(f"{path.name} is there already, drawn from another prompt or seed; give this one a name")
        return True

    def add(self, row: Row, result: Generation) -> None:
        """Write one image, its labels first, so that an image that is there is complete."""
        if result.segmentation is not None:
            write_labels(self.folder, row.name, shared_labels(result.segmentation, self.classes), self.classes)
        write_image(self.folder, row.name, result.image, prompt=row.prompt, seed=str(row.seed))

    def finish(self, rows: Sequence[Row], named: Mapping[str, Sequence[str]]) -> None:
        """Write captions and COCO annotations of these rows, whose images are there.

        Args:
            named: the classes that were segmented, by the row's name; where there are none, the caption is the prompt.
        """
        captions = {row.name: ", ".join(named[row.name] or (row.prompt,)) for row in rows}
        save_captions(self.folder / CAPTIONS, {f"{name}.png": caption for name, caption in captions.items()})
        if self.segments:
            annotations = CocoAnnotations(self.classes)
            for row in rows:
                with Image.open(self.folder / LABELS / f"{row.name}.png") as picture:
                    annotations.add(f"{row.name}.png", np.asarray(picture), caption=row.prompt)
            annotations.write(self.folder)


def check_settings(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder is one of an earlier run, which must have had the same settings.

    Raises:
        ValueError: other settings, or a folder that holds something else.
    """
    path = folder / SETTINGS
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty and not from an earlier run; choose another folder with --out")
        return False
    try:
        before = read_json(path)
    except ValueError:
        before = None
    if before != json.loads(json.dumps(settings)):
        names = [name for name in settings if not isinstance(before, dict) or before.get(name) != settings[name]]
        raise ValueError(
            f"{folder} is from a run with other settings ({', '.join(names) or 'more of them'}); "
            "choose another folder with --out, or the same settings"
        )
    return True
