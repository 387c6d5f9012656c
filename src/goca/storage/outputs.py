"""The policy of output files: what this run did not write is overwritten only where the user says so, inputs never.

Commands say so with ``--overwrite``, functions with ``overwrite=True``. The names of all files are known and checked
before anything is computed, as far as they can be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

REPLACE = "replace it with --overwrite (overwrite=True) or choose another folder with --out"


def refuse_existing(paths: Iterable[Path], overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse outputs that would replace an input, or any file unless ``overwrite`` is set.

    Args:
        paths: the outputs.
        inputs: files that this run reads.

    Raises:
        FileExistsError: one sentence, which names the file.
    """
    read = {_identity(path) for path in inputs}
    for path in paths:
        if read and _identity(path) in read:
            raise FileExistsError(f"{path} is an input of this run and would be overwritten; choose another --out")
        if path.is_dir():
            raise FileExistsError(f"{path} is a folder where a file would be written; choose another --out")
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(f"{path} exists already; {REPLACE}")


def cannot_write(folder: Path, error: OSError, advice: str = "choose another one with --out") -> OSError:
    """The error for a folder that cannot be written to."""
    return OSError(f"cannot write to the folder {folder} ({error.strerror or error}); {advice}")


def check_folder(folder: Path) -> None:
    """Raise ``OSError`` early where the folder to write to is a file, lies below one, or cannot be written to."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise OSError(f"cannot write to the folder {folder} ({path} is a file); choose another one with --out")
    if not os.access(existing_parent(folder), os.W_OK | os.X_OK):
        raise OSError(f"cannot write to the folder {folder} (Permission denied); choose another one with --out")


def existing_parent(folder: Path) -> Path:
    """The nearest part of the path that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("."))


def _identity(path: str | Path) -> tuple[int, int] | str:
    """What is the same for two names of one file."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    return found.st_dev, found.st_ino
