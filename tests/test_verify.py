"""Golden files of the published code, and what happens to files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from goca.golden.verify import verify

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted((GOLDEN / "maps").iterdir()) + sorted((GOLDEN / "evaluation").iterdir())


def changed_copy(source: Path, target: Path, change) -> Path:
    with safe_open(source, framework="pt") as file:
        case, tensors = json.loads(file.metadata()["case"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(case, tensors)
    save_file(tensors, target, {"case": json.dumps(case)})
    return target


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_published_outputs_are_reproduced(path):
    (check,) = verify([path])
    assert (check.kind, check.name) == (path.parent.name, path.stem)
    assert check.passed, check
    assert check.difference <= (1e-5 if check.kind == "maps" else 0.0)


def test_a_folder_is_walked_and_other_json_is_left_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "vocab.json").write_text('{"a": 1}')
    (tmp_path / "deep" / "one.safetensors").write_bytes(FILES[0].read_bytes())
    assert [check.name for check in verify([tmp_path])] == ["one"]


def test_a_wrong_expectation_fails(tmp_path):
    def spoil_maps(case, tensors):
        tensors["expected.refined_maps"][0, 0, 0] += 2e-4

    def spoil_nan(case, tensors):
        tensors["expected.refined_maps"][0, 0, 0] = torch.nan

    def spoil_counts(case, tensors):
        counts = case["expected_intersection_union"]
        counts[next(iter(counts))][0][1] += 1

    evaluation = GOLDEN / "evaluation" / "max.safetensors"
    changes = [(FILES[0], spoil_maps), (FILES[0], spoil_nan), (evaluation, spoil_counts)]
    paths = [changed_copy(source, tmp_path / f"{i}.safetensors", change) for i, (source, change) in enumerate(changes)]
    assert [check.passed for check in verify(paths)] == [False] * 3


def test_broken_files_fail_with_a_sentence(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors here")
    (tmp_path / "b.json").write_text("{")
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    changed_copy(FILES[0], tmp_path / "d.safetensors", lambda case, tensors: case.pop("grids"))
    changed_copy(FILES[0], tmp_path / "e.safetensors", lambda case, tensors: tensors.pop("expected.class_maps"))
    checks = list(verify([tmp_path]))
    assert [check.name for check in checks] == ["a", "b", "c", "d", "e"]
    assert not any(check.passed for check in checks)
    assert "no case in its metadata" in checks[2].message
    assert checks[3].message == "the case lacks 'grids'"
    assert checks[4].message == "cases of kind 'unknown' are not supported yet"


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no golden file there"):
        list(verify([tmp_path]))
    with pytest.raises(ValueError, match="does not exist"):
        list(verify([tmp_path / "none.safetensors"]))
