"""What is overwritten and what is not, and what killed runs leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import goca
from goca.storage.atomic import OLD, remove_leftovers, staged_folder
from goca.storage.outputs import check_folder, refuse_existing
from goca.storage.png import read_texts, write_png


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_that_are_there_are_refused_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError, match="a exists already; replace it with --overwrite"):
        refuse_existing([tmp_path / "b", tmp_path / "a"])
    refuse_existing([tmp_path / "b", tmp_path / "a"], overwrite=True)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        refuse_existing([tmp_path / "link"])
    (tmp_path / "d").mkdir()
    with pytest.raises(FileExistsError, match="d is a folder where a file would be written"):
        refuse_existing([tmp_path / "d"], overwrite=True)


def test_inputs_are_never_overwritten_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    os.link(tmp_path / "photo.png", tmp_path / "same.png")
    for name in ("photo.png", "same.png", "gone/../photo.png"):
        (tmp_path / "gone").mkdir(exist_ok=True)
        with pytest.raises(FileExistsError, match="is an input of this run"):
            refuse_existing([tmp_path / name], overwrite=True, inputs=[tmp_path / "photo.png"])
    refuse_existing([tmp_path / "new.png"], inputs=[tmp_path / "other.png"])


def test_staged_files_replace_only_where_it_is_said(tmp_path: Path) -> None:
    for name in ("a", "stale"):
        (tmp_path / name).write_text("old")
    stale = [tmp_path / "stale"]
    with pytest.raises(FileExistsError), staged_folder(tmp_path, stale=stale) as scratch:
        for name in ("a", "b"):
            (scratch / name).write_text("new")
    assert files(tmp_path) == {"a": "old", "stale": "old"}
    with staged_folder(tmp_path, overwrite=True, stale=stale) as scratch:
        for name in ("a", "b"):
            (scratch / name).write_text("new")
    assert files(tmp_path) == {"a": "new", "b": "new"}


def test_a_new_folder_comes_whole_and_nothing_of_it_stays_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "x/y") as scratch:
        (scratch / "a").write_text("new")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with staged_folder(tmp_path / "x/y"):
        pass
    assert list(tmp_path.iterdir()) == []
    with staged_folder(tmp_path / "x/y") as scratch:
        (scratch / "a").write_text("new")
        inode = scratch.stat().st_ino
    assert (tmp_path / "x/y").stat().st_ino == inode and files(tmp_path) == {"x/y/a": "new"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_early(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission denied"):
        check_folder(tmp_path / "new")


def test_scratch_of_killed_runs_goes_and_no_other(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom goca.storage.atomic import replace_file, staged_folder\n"
        "out = Path(sys.argv[1])\n"
        "with staged_folder(out) as scratch:\n"
        "    (scratch / 'a').touch()\n"
        "    replace_file(out / 'b', lambda path: (path.touch(), os._exit(9)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(goca.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    elsewhere = [tmp_path / f".goca-00000000-1-{'0' * 7}{number}" for number in range(2)]
    for path in elsewhere:
        path.touch()
    os.utime(elsewhere[1], (time.time() - 2 * OLD,) * 2)
    kept = {elsewhere[0], tmp_path / ".goca-mine", tmp_path / "b"}
    for path in kept:
        path.touch()
    with staged_folder(tmp_path) as scratch:
        remove_leftovers(tmp_path, tmp_path / "gone")
        assert set(tmp_path.iterdir()) == kept | {scratch}
    assert set(tmp_path.iterdir()) == kept


def test_pictures_say_who_wrote_them(tmp_path: Path) -> None:
    picture = Image.new("RGB", (3, 2))
    write_png(picture, tmp_path / "new/a.png", prompt="cät")
    assert read_texts(tmp_path / "new/a.png") == {"Software": "goca", "prompt": "cät"}
    picture.save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    assert [read_texts(tmp_path / name) for name in ("b.png", "c.png", "gone.png")] == [{}, {}, {}]
