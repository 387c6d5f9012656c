"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place: all of it is there or nothing.

    Raises:
        OSError: the folder cannot be written to.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    replace_file(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder inside ``folder`` whose files (in sub-folders too) move to ``folder`` at the end: all of them,
    or none after an error.

    Raises:
        OSError: the folder cannot be written to; the message says so.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".goca-", dir=folder) as scratch:
            yield Path(scratch)
            for path in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
                target = folder / path.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(folder: Path, error: OSError, advice: str = "choose another one") -> OSError:
    """The error for a folder that cannot be written to."""
    return OSError(f"cannot write to the folder {folder} ({error.strerror or error}); {advice}")


def check_folder(folder: Path) -> None:
    """Raise ``OSError`` early where the folder to write to is a file or lies below one."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise OSError(f"cannot write to the folder {folder} ({path} is a file); choose another one with --out")
