"""The files of an evaluation, and which of them may be replaced."""

from __future__ import annotations

from pathlib import Path

from goca.storage.atomic import remove_leftovers
from goca.storage.json_reader import read_json
from goca.storage.outputs import REPLACE, check_folder, refuse_existing


def records_file(folder: Path) -> Path:
    """The journal: a line for each image."""
    return folder / "records.jsonl"


def answer_files(folder: Path) -> tuple[Path, Path]:
    """The answer and the report, which are made of the journal."""
    return folder / "results.json", folder / "report.html"


def check_out(out: Path | None, resume: bool, overwrite: bool = False) -> None:
    """Refuse early a folder that the results cannot go to.

    Raises:
        ValueError: nothing is there to resume, or results are there and neither ``resume`` nor ``overwrite`` is set.
        FileExistsError: a file with the name of a result that no evaluation wrote, and ``overwrite`` is not set.
        OSError: the folder cannot be one.
    """
    if resume and out is None:
        raise ValueError("--resume continues the results of a folder; name it with --out")
    if resume and overwrite:
        raise ValueError("--resume continues results and --overwrite replaces them; leave out one of the two")
    if out is None:
        return
    check_folder(out)
    remove_leftovers(out, out.parent)
    results, report = answer_files(out)
    if records_file(out).exists() and not resume and not overwrite:
        raise ValueError(f"{records_file(out)} holds results already; continue them with --resume, or {REPLACE}")
    if not (resume and is_answer(results)):
        refuse_existing([results, report], overwrite)


def is_answer(path: Path) -> bool:
    """Whether a file is the answer of an evaluation."""
    try:
        content = read_json(path)
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and {"results", "settings"} <= content.keys()
