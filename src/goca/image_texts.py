"""What to look for in each image, where images differ: captions in the published format, or a CSV table."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from goca.lookup import Names, read_names
from goca.messages import first_names
from goca.storage.captions import load_captions
from goca.text.grammar import parse
from goca.text.prompt import mentioned_classes


@dataclass(frozen=True)
class ImageText:
    """What is looked for in one image.

    Attributes:
        classes: names, synonyms separated by ``|``.
        caption: the text for the model; ``None`` for the names themselves.
        problem: why it is not known what to look for, if it is not.
    """

    classes: tuple[str, ...]
    caption: str | None = None
    problem: str | None = None

    @property
    def names(self) -> list[str]:
        """What the classes are called: the first of their synonyms."""
        return [" ".join(name.split("|")[0].split()) for name in self.classes]


def read_classes_file(path: str | Path) -> list[str]:
    """The names of a text file, one class a line, synonyms separated by ``|``; empty lines and ``#`` lines are skipped.

    Raises:
        ValueError: no text in UTF-8, or no name in it. OSError: it cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; write one class on each line") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise ValueError(f"{path} names no class; write one on each line")
    return names


def read_texts(path: str | Path, classes: Names | None = None) -> dict[str, ImageText]:
    """What to look for by name of the image file.

    Args:
        path: ``.json``, captions as ``goca caption`` writes them: their things are the classes, the parts of one thing
            its synonyms. Or ``.csv`` with the columns ``image`` and ``classes`` or ``caption`` or both, classes
            separated by commas.
        classes: look for those of them that an image's caption mentions, instead.

    Raises:
        ValueError: the file is damaged or of another structure. OSError: it cannot be read.
    """
    if str(path).lower().endswith(".csv"):
        rows = _read_csv(Path(path))
    else:
        rows = {name: (None, caption) for name, caption in load_captions(path).items()}
    wanted = None if classes is None else read_names(classes, "class")
    return {
        name: ImageText(tuple(read_names(names, "class")), caption)
        if names is not None and (wanted is None or caption is None)
        else read_text(caption or "", wanted)
        for name, (names, caption) in rows.items()
    }


def read_text(caption: str, classes: Sequence[str] | None = None) -> ImageText:
    """The things that a caption names, the parts of one thing as synonyms; or those of ``classes`` that it mentions."""
    if classes is not None:
        return ImageText(tuple(mentioned_classes(list(classes), caption)), caption)
    nouns: dict[str, None] = {}
    found = []
    for group in parse(caption):
        new = [noun for noun in dict.fromkeys(group) if noun not in nouns]
        nouns.update(dict.fromkeys(new))
        found += ["|".join(new)] if new else []
    return ImageText(tuple(found), ", ".join(nouns))


def texts_of(images: Sequence[str], texts: Mapping[str, ImageText]) -> list[ImageText]:
    """The text of each image, found by its path as given, or by its name.

    Raises:
        ValueError: an image without a text, or a text without an image; the message says how many and which.
    """
    keys = [image if image in texts else os.path.basename(image) for image in images]
    missing = [image for image, key in zip(images, keys, strict=True) if key not in texts]
    unknown = [name for name in texts if name not in set(keys)]
    for found, what in ((missing, "images have no entry in the list"), (unknown, "entries of the list fit no image")):
        if found:
            raise ValueError(f"{len(found)} {what} of classes or captions: {first_names(found)}; make the two the same")
    return [texts[key] for key in keys]


def _read_csv(path: Path) -> dict[str, tuple[str | None, str | None]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV table in UTF-8 ({error})") from None
    fields = rows[0].keys() if rows else ()
    if "image" not in fields or not {"classes", "caption"} & set(fields):
        raise ValueError(f"{path} needs a row of titles with image and classes or caption, and one row for each image")
    found: dict[str, tuple[str | None, str | None]] = {}
    for line, row in enumerate(rows, start=2):
        name, names, caption = (str(row.get(key) or "").strip() for key in ("image", "classes", "caption"))
        if not name or not (names or caption) or name in found:
            raise ValueError(f"row {line} of {path} has no image, no classes, or an image that was named before")
        found[name] = names or None, caption or None
    return found
