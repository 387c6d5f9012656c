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

from goca.export.coco import COCO, CocoAnnotations
from goca.export.folder import (
    CAPTIONS,
    CLASSES,
    IMAGES,
    LABELS,
    earlier_dataset,
    shared_labels,
    write_classes,
    write_image,
    write_labels,
)
from goca.guidance.generate import Generation
from goca.messages import shorten
from goca.ranges import LARGEST_SEED, check_seed
from goca.storage.atomic import is_scratch, remove_leftovers, write_atomically
from goca.storage.captions import load_captions, save_captions
from goca.storage.json_reader import read_json
from goca.storage.outputs import cannot_write
from goca.storage.png import read_texts

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
    as nouns between commas finds them all. Nothing is written before the first image.

    Args:
        settings: of the run; kept in ``settings.json``, with the classes under ``labels``.
        classes: of the labels, where there are any; those that the folder has already come first.
        overwrite: replace the data set of an earlier run, whatever its settings.

    Raises:
        ValueError: the folder is from a run with other settings, its classes.txt or captions.json has changed, or it
            holds something else.
        FileExistsError: there are pictures that goca did not write.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        classes: Sequence[str] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.settings, self.segments = folder, settings, classes is not None
        resumed = check_settings(folder, settings, overwrite=overwrite)
        earlier = (*earlier_dataset(folder), folder / COCO, folder / SETTINGS) if overwrite else ()
        self._replaced, self._begun = earlier, False
        known = self._known_classes() if resumed and self.segments and not overwrite else []
        self.classes = list(dict.fromkeys([*known, *(classes or ())]))
        self.captions: dict[str, str] = {}
        if resumed and not overwrite and (folder / CAPTIONS).exists():
            self.captions = load_captions(folder / CAPTIONS)
        remove_leftovers(folder, folder.parent, folder / IMAGES, folder / LABELS)

    def has(self, row: Row) -> bool:
        """Whether the row's image is there, with its labels where there are any.

        Raises:
            ValueError: an image of that name was drawn from another prompt or seed, or is damaged.
        """
        path = self._image(row.name)
        if path in self._replaced or not path.exists():
            return False
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                told, size = image.info, image.size
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path.name} is damaged ({error}); remove it, and it will be drawn again") from None
        if (told.get("prompt"), told.get("seed")) != (row.prompt, str(row.seed)):
            raise ValueError(f"{path.name} is there already, drawn from another prompt or seed; give this one a name")
        return not self.segments or self._has_labels(row.name, size)

    def check_captions(self, expected: Mapping[str, str]) -> None:
        """Refuse a captions.json in which somebody changed what this run would write.

        Args:
            expected: the caption of each image, by its name without ``.png``.

        Raises:
            ValueError: it has other captions.
        """
        for name, caption in expected.items():
            before = self.captions.get(f"{name}.png", caption)
            if before != caption and self._image(name).exists():
                raise ValueError(
                    f"{self.folder / CAPTIONS} has changed since: {name}.png is {before!r} and was {caption!r}; "
                    "move it away, and it will be written again"
                )

    def add(self, row: Row, result: Generation) -> None:
        """Write one image, its labels first, so that an image that is there is complete.

        Raises:
            OSError: the folder cannot be written to.
        """
        try:
            self._begin()
            if result.segmentation is not None:
                write_labels(self.folder, row.name, shared_labels(result.segmentation, self.classes), self.classes)
            write_image(self.folder, row.name, result.image, prompt=row.prompt, seed=str(row.seed))
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def finish(self, captions: Mapping[str, str]) -> None:
        """Write captions and COCO annotations of these images, by their name without ``.png``, and of those that
        earlier tables drew here."""
        if not captions:
            return
        self._begin()
        texts = {f"{name}.png": caption for name, caption in captions.items()}
        texts |= {
            name: caption
            for name, caption in self.captions.items()
            if name not in texts and (self.folder / IMAGES / name).exists()
        }
        save_captions(self.folder / CAPTIONS, texts)
        if self.segments:
            annotations = CocoAnnotations(self.classes)
            for name in texts:
                prompt = read_texts(self.folder / IMAGES / name).get("prompt", texts[name])
                with Image.open(self.folder / LABELS / name, formats=["PNG"]) as picture:
                    annotations.add(name, np.asarray(picture), caption=prompt)
            annotations.write(self.folder)

    def _begin(self) -> None:
        """Make the folder, and write settings and classes, once."""
        if self._begun:
            return
        for path in self._replaced:
            path.unlink(missing_ok=True)
        for part in (IMAGES, LABELS) if self.segments else (IMAGES,):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        labels = {"labels": self.classes} if self.segments else {}
        write_atomically(self.folder / SETTINGS, json.dumps({**self.settings, **labels}, indent=2) + "\n")
        if self.segments:
            write_classes(self.folder, self.classes)
        self._replaced, self._begun = (), True

    def _image(self, name: str) -> Path:
        return self.folder / IMAGES / f"{name}.png"

    def _has_labels(self, name: str, size: tuple[int, int]) -> bool:
        try:
            with Image.open(self.folder / LABELS / f"{name}.png", formats=["PNG"]) as picture:
                return picture.size == size and int(np.asarray(picture).max()) < len(self.classes)
        except (OSError, ValueError, SyntaxError):
            return False

    def _known_classes(self) -> list[str]:
        """The classes that the folder's labels have.

        Raises:
            ValueError: classes.txt is not as the earlier run wrote it.
        """
        path = self.folder / CLASSES
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        written = read_json(self.folder / SETTINGS).get("labels", found)
        if not isinstance(written, list) or written[: len(found)] != found:
            raise ValueError(
                f"{path} has changed since the labels were drawn, so that they mean other classes; "
                "put it back, choose another folder with --out, or replace this one with --overwrite"
            )
        return [str(name) for name in written]


def check_settings(folder: Path, settings: dict[str, Any], *, overwrite: bool = False) -> bool:
    """Whether the folder is one of an earlier run, which must have had the same settings.

    Args:
        overwrite: other settings will do.

    Raises:
        ValueError: other settings, or a folder that holds something else.
    """
    path = folder / SETTINGS
    if not path.exists():
        if folder.is_dir() and any(not is_scratch(each) for each in folder.iterdir()):
            raise ValueError(f"{folder} is not empty and not from an earlier run; choose another folder with --out")
        return False
    try:
        before = read_json(path)
    except ValueError:
        before = None
    before = {key: value for key, value in before.items() if key != "labels"} if isinstance(before, dict) else {}
    now = json.loads(json.dumps(settings))
    if before and "weights" in now:
        before.setdefault("weights", now["weights"])  # folders of earlier versions do not tell
    if before != now and not overwrite:
        names = [name for name in {**now, **before} if name not in before or before[name] != now.get(name)]
        raise ValueError(
            f"{folder} is from a run with other settings ({', '.join(names)}); choose another folder with --out, "
            "the same settings, or replace it with --overwrite"
        )
    return True
