"""Bad JSON documents at every reader of JSON: one sentence that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from goca.captioning.answers import Answers
from goca.captioning.replies import read_reply
from goca.datasets import open_dataset
from goca.golden.verify import verify
from goca.guidance.table import check_settings
from goca.models.hub import pipeline_index
from goca.observation.files import DESCRIPTION, read_npz
from goca.storage.captions import load_captions
from goca.storage.journal import Journal
from goca.storage.json_reader import MAX_DEPTH, parse_json, read_json, read_json_lines

NO_JSON = {
    "empty": b"",
    "cut": b'{"a": {"caption": "ca',
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deeper than is read": b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    "not a number": b'{"a": NaN}',
    "infinite": b'{"a": 1e999}',
    "long number": b'{"a": ' + b"1" * 5000 + b"}",
    "no text": b"\xff\xfe{",
    "Latin": b'{"a": "\xe4"}',
    "half a character": rb'{"a": "\ud800"}',
    "twice": b'{"a": {"caption": "cat"}, "a": {"caption": "dog"}}',
    "two": b"{} {}",
    "comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "page": b"<html></html>",
    "zeros": b"\0" * 64,
}
OTHER = {"null": b"null", "number": b"3", "text": b'"text"', "list": b"[]", "nested": b'{"a": {"caption": [1]}}'}


def read_panoptic(path: Path) -> Any:
    root = path.parent
    (root / "annotations/panoptic_val2017").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "annotations/panoptic_val2017.json").write_bytes(path.read_bytes())
    return open_dataset("coco-object", root)


def read_folder(path: Path) -> Any:
    for name in ("images", "labels"):
        (path.parent / name).mkdir()
        Image.new("L", (2, 2)).save(path.parent / name / "a.png")
    (path.parent / "classes.txt").write_text("cat\n")
    path.rename(path.with_name("captions.json"))
    return open_dataset("folder", path.parent)


def read_model_index(path: Path) -> Any:
    path.rename(path.with_name("model_index.json"))
    return pipeline_index(str(path.parent), None)


def read_settings(path: Path) -> Any:
    path.rename(path.with_name("settings.json"))
    return check_settings(path.parent, {"model": "m"})


def verify_file(path: Path) -> Any:
    (check,) = verify([path])
    assert not check.passed and "\n" not in check.message
    raise ValueError(f"{path}: {check.message}")


def read_explanation(path: Path) -> Any:
    with path.with_suffix(".npz").open("wb") as stream:
        np.savez_compressed(stream, **{DESCRIPTION: np.array(path.read_bytes().decode("latin-1"))})  # type: ignore[arg-type]
    return read_npz(path.with_suffix(".npz"))


READERS: dict[str, Callable[[Path], Any]] = {
    "captions": load_captions,
    "folder": read_folder,
    "journal": lambda path: Journal(path, {}, resume=True),
    "panoptic": read_panoptic,
    "model index": read_model_index,
    "settings": read_settings,
    "golden": verify_file,
    "answers": lambda path: Answers(path, {}),
    "explanation": read_explanation,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("document", NO_JSON | OTHER)
def test_bad_documents_are_refused_in_one_sentence(reader: str, document: str, tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    path.write_bytes((NO_JSON | OTHER)[document] + b"\n" * (reader in ("journal", "answers")))
    with pytest.raises(ValueError) as refused:
        READERS[reader](path)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 400


@pytest.mark.parametrize("document", NO_JSON | OTHER)
def test_a_server_may_answer_anything(document: str) -> None:
    reply = read_reply((NO_JSON | OTHER)[document])
    assert reply.problem and not reply.text and reply.problem.isprintable() and len(reply.problem) < 400


@pytest.mark.parametrize("damage", range(60))
def test_damaged_explanations_are_refused_or_read(damage: int, tmp_path: Path) -> None:
    path, rng = tmp_path / "x.npz", np.random.default_rng(damage)
    with path.open("wb") as stream:
        np.savez_compressed(stream, **{DESCRIPTION: np.array('{"format": 0}')}, maps=np.zeros((2, 3)))  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), 4):
        content[place] = rng.integers(0, 256)
    path.write_bytes(content[: rng.integers(1, len(content))] if damage % 3 == 0 else content)
    with pytest.raises(ValueError, match=r"x\.npz (is damaged|holds no explanation|has the format)"):
        read_npz(path)


@pytest.mark.parametrize("document", NO_JSON)
def test_no_json_is_named(document: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(NO_JSON[document])
    with pytest.raises(ValueError, match=r"x\.json is damaged or no JSON \(.*\); get or write it again"):
        read_json(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_documents_of_other_editors_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes('{"Bäume.jpg": {"caption": "\N{DECIDUOUS TREE} tree"}}'.encode(encoding))
    assert load_captions(path) == {"Bäume.jpg": "\N{DECIDUOUS TREE} tree"}


def test_depth_counts_levels() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(deepest, "x")) == deepest
    assert parse_json("\ufeff3", "x") == 3 and parse_json(rb'"\ud83c\udf33"', "x") == "\N{DECIDUOUS TREE}"


def test_lines_are_counted_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n\n{"step": 2}\n')
    assert read_json_lines(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"st\n')
    with pytest.raises(ValueError, match=r"line 2 of .*log\.jsonl is damaged or no JSON"):
        read_json_lines(path)


def test_folders_are_no_documents(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no regular file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")
