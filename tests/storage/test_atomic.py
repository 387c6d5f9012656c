"""Files that appear whole or not at all, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from goca.storage.atomic import staged_folder, write_atomically
from goca.storage.names import file_names, file_stems


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "new \ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_staged_files_move_together(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as scratch:
        (scratch / "a.txt").write_text("a")
        (scratch / "deep").mkdir()
        (scratch / "deep/b.txt").write_text("b")
        assert not (tmp_path / "out/a.txt").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "deep"]
    assert (tmp_path / "out/deep/b.txt").read_text() == "b"


def test_nothing_of_a_staged_folder_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_folder(tmp_path) as scratch:
        (scratch / "a.txt").write_text("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_file_names_are_safe_and_different() -> None:
    assert file_names(["Fire engine", "fire-engine", "../etc", "?", "!", "\u732b"]) == [
        "fire-engine",
        "fire-engine-2",
        "etc",
        "class",
        "class-2",
        "\u732b",
    ]


def test_file_stems_differ_whatever_their_case() -> None:
    assert file_stems(["a/x.png", "b/X.jpg", "x-2.png"]) == ["x", "X-2", "x-2-2"]
