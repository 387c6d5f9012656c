"""Segment a few image files together, and say of each what came of it: the unit of work of many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from goca.image_texts import ImageText
from goca.images import read_image
from goca.maps.upsample import BILINEAR
from goca.messages import sentence
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.storage.digest import file_digest
from goca.storage.journal import Entry
from goca.tiles import Tiles
from goca.types import Prompt


@dataclass(frozen=True)
class Item:
    """An image of a run: its number, its path, what the names of its files begin with, and what is looked for."""

    index: int
    image: str
    stem: str
    text: ImageText


@dataclass(frozen=True)
class Request:
    """What is the same for all images, see :meth:`goca.Segmenter.__call__`."""

    background: tuple[str, ...] = ()
    threshold: float | None = None
    seed: int = 0
    ignore_below: float = 0.0
    drop_absent: bool = False
    tiles: Tiles | None = None
    upsample: str = BILINEAR


Group = Sequence[Item]
Outcome = tuple[Entry, Segmentation | None]  # a line for the journal; no result where the image failed
Compute = Callable[[Sequence[Group], Request], Iterator[list[Outcome]]]


class GroupSegmenter:
    """From a group of images to their outcomes."""

    def __init__(self, segmenter: Segmenter, request: Request) -> None:
        self.segmenter, self.request = segmenter, request
        self.method = segmenter.resolve(None, request.threshold)
        self._last: tuple[ImageText, Prompt] | None = None

    def __call__(self, group: Group) -> list[Outcome]:
        """Segment the images in one forward; those that cannot be read, or whose own classes do not fit, fail.

        Raises:
            MemoryError: the memory does not hold one image.
        """
        entries, pictures, prompts = [], list[Image](), list[Prompt]()
        for item in group:
            entry: Entry = {"index": item.index, "image": item.image, "stem": item.stem, "error": None}
            try:
                picture, prompt = read_image(item.image), self.prompt(item.text)
                entry["digest"] = file_digest(Path(item.image))
                if self.request.tiles is not None:
                    self.segmenter.tile_plan(picture, self.request.tiles)
            except (ValueError, OSError) as error:
                entry |= {"error": sentence(error), "digest": ""}
            else:
                pictures.append(picture)
                prompts.append(prompt)
            entries.append(entry)
        asked = self.request
        options = (asked.seed, asked.ignore_below, asked.drop_absent, asked.tiles, asked.upsample)
        results = iter(self.segmenter.segment_batch(pictures, prompts, self.method, *options) if prompts else [])
        outcomes = [(entry, next(results) if entry["error"] is None else None) for entry in entries]
        for entry, result in outcomes:
            if result is not None:
                entry |= {"areas": result.areas, "notes": list(result.notes)}
        return outcomes

    def prompt(self, text: ImageText) -> Prompt:
        """The prompt of an image; of images with one text it is made once.

        Raises:
            ValueError: it is not known what to look for, or the classes do not fit the model.
        """
        if text.problem is not None:
            raise ValueError(text.problem)
        if self._last is None or self._last[0] != text:
            background = self.request.background
            self._last = text, self.segmenter.prompt(text.classes, caption=text.caption, background=background)
        return self._last[1]
