"""Caption files in the published format: ``{"2009_000133.jpg": {"caption": "aeroplane, (person, clothes), sky"}}``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from goca.storage.atomic import write_atomically
from goca.storage.json_reader import read_json

CAPTIONS = "captions.json"


@dataclass(frozen=True)
class Mismatch:
    """Where captions and images do not fit: names with a caption but no image, and images without a caption."""

    unknown: tuple[str, ...]
    missing: tuple[str, ...]


def load_captions(path: str | Path) -> dict[str, str]:
    """The caption of each image name.

    Raises:
        ValueError: the file is damaged or of another structure.
        OSError: the file cannot be read.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds no captions; it must look like {{"cat.jpg": {{"caption": "cat, grass"}}}}')
    for name, entry in content.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("caption"), str):
            raise ValueError(
                f'{path} has no text under "caption" for {name!r}; write {{"caption": "cat, grass"}} there'
            )
    return {name: entry["caption"] for name, entry in content.items()}


def save_captions(path: Path, captions: Mapping[str, str]) -> None:
    """Write a caption file; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: {"caption": caption} for name, caption in captions.items()}, indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")


def check_captions(captions: Collection[str], names: Iterable[str]) -> Mismatch:
    """Compare the names that have a caption with the names of the images."""
    images = list(names)
    known = set(images)
    return Mismatch(
        tuple(name for name in captions if name not in known), tuple(name for name in images if name not in captions)
    )
