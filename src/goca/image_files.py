"""Which image files are meant: files, folders, patterns and lists of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def find_images(sources: Sequence[str]) -> list[str]:
    """The paths of the images, each file once, in the order of the sources.

    Args:
        sources: image files; folders, for all images in them and in their folders, in alphabetical order; patterns such
            as ``photos/*.jpg`` or ``photos/**/*.png``; or text files (``.txt``) with a path on each line, relative to
            the text file.

    Raises:
        ValueError: a folder without images, a pattern that nothing matches, an empty list, or a file that is not there.
    """
    paths: dict[str, str] = {}
    for path in (path for source in sources for path in _expand(source)):
        paths.setdefault(os.path.abspath(path), path)
    return list(paths.values())


def _expand(source: str) -> Iterator[str]:
    if os.path.isdir(source):
        found = sorted(_walk(source))
        if not found:
            raise ValueError(f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)}); name another folder")
        yield from found
    elif source.lower().endswith(".txt") and os.path.isfile(source):
        yield from _read_list(Path(source))
    elif not os.path.exists(source) and glob.has_magic(source):
        matches = sorted(path for path in glob.glob(source, recursive=True) if os.path.isfile(path))
        if not matches:
            raise ValueError(f"no file matches {source!r}; write the pattern in quotes, for example 'photos/**/*.jpg'")
        yield from matches
    else:
        yield source


def _walk(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            os.path.join(root, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )


def _read_list(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; write one path of an image on each line") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"{path} names no image; write one path on each line")
    for name in found:
        image = path.parent / name
        if not image.is_file():
            raise ValueError(f"{path} names {name!r}, but {image} is no file; paths are relative to the list")
        yield str(image)
