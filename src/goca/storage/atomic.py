"""Files that appear whole or not at all, and what killed runs leave of them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goca.storage.outputs import cannot_write, existing_parent, refuse_existing

SCRATCH = re.compile(r"\.goca-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
OLD = 24 * 3600  # seconds after which the scratch of another machine's run counts as left behind
_MOVING = threading.Lock()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place: all of it is there or nothing.

    Raises:
        OSError: the folder cannot be written to.
    """
    scratch = _scratch(path.parent)
    try:
        write(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    replace_file(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


@contextmanager
def staged_folder(folder: Path, *, overwrite: bool = False, stale: Iterable[Path] = ()) -> Iterator[Path]:
    """A scratch folder whose files (in sub-folders too) move to ``folder`` at the end: all of them, or none after an
    error.

    Args:
        folder: is made where it is missing.
        overwrite: replace files that are there.
        stale: files of an earlier run in ``folder`` that go when the new ones come.

    Raises:
        FileExistsError: a file is there already and ``overwrite`` is not set.
        OSError: the folder cannot be written to; the message says so.
    """
    try:
        scratch = _scratch(folder if folder.is_dir() else existing_parent(folder))
        scratch.mkdir()
        try:
            yield scratch
            with _MOVING:
                _move(scratch, folder, overwrite, stale)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(folder, error) from error


def _move(scratch: Path, folder: Path, overwrite: bool, stale: Iterable[Path]) -> None:
    moves = {path: folder / path.relative_to(scratch) for path in sorted(scratch.rglob("*")) if path.is_file()}
    if not moves:
        return
    refuse_existing(moves.values(), overwrite)
    for path in set(stale).difference(moves.values()):
        path.unlink(missing_ok=True)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another process may have made the folder meanwhile
            scratch.rename(folder)
            return
    for path, target in moves.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def remove_leftovers(*folders: Path) -> None:
    """Remove the scratch files and folders that killed runs left directly in these folders.

    Those of runs on this machine go when no process has their number any more, those of other machines after a day.
    """
    import psutil

    for folder in {each if each.is_dir() else existing_parent(each) for each in folders}:
        with suppress(OSError):
            for path in folder.iterdir():
                name = SCRATCH.fullmatch(path.name)
                if name is None:
                    continue
                here, process = name[1] == _machine(), int(name[2])
                dead = not psutil.pid_exists(process) if here else time.time() - path.stat().st_mtime > OLD
                if dead and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif dead:
                    path.unlink(missing_ok=True)


def is_scratch(path: Path) -> bool:
    """Whether the name is one that unfinished files and folders have."""
    return SCRATCH.fullmatch(path.name) is not None


def _scratch(folder: Path) -> Path:
    """A new name, which tells machine and process."""
    return folder / f".goca-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
