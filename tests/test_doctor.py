"""Which models fit, and what the doctor finds."""

from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace

import psutil
import pytest
import torch
from typer.testing import CliRunner

from goca import doctor
from goca.cli import app
from goca.models import MODELS, ModelSpec
from goca.models.fit import OVERHEAD, Memory, find_memory, options_that_fit

GIB = 2**30
SPEC = ModelSpec("a", ("P",), "x/y", 512, parameters=3 * 2**28, total_parameters=2**30)  # 2 GiB in 16 bits


@pytest.mark.parametrize(
    ("main", "device", "expected"),
    [
        (4 * OVERHEAD, None, ""),
        (3.9 * OVERHEAD, None, "--dtype bfloat16"),
        (1.9 * OVERHEAD, None, None),
        (1, 2 * OVERHEAD, ""),
        (8, 1.6 * OVERHEAD, "--offload model"),
        (8, 1, "--offload sequential"),
        (1, 1, None),
    ],
)
def test_the_first_options_that_fit(main: float, device: float | None, expected: str | None) -> None:
    memory = Memory(int(main * GIB) + 1, None if device is None else int(device * GIB) + 1)
    assert options_that_fit(SPEC, memory) == expected


def test_models_of_unknown_size_are_refused() -> None:
    with pytest.raises(ValueError, match="size of b is not known"):
        options_that_fit(ModelSpec("b", ("P",), "x/y", 512), Memory(GIB))


def test_the_free_memory_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * GIB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (7 * GIB, 8 * GIB))
    assert find_memory() == Memory(5 * GIB, 7 * GIB)


def test_models_that_fit_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.models.fit.find_memory", lambda: Memory(6 * GIB))
    listed = json.loads(CliRunner().invoke(app, ["models", "--fit", "--json"]).stdout)["models"]
    found = {model["name"]: model["options"] for model in listed}
    assert found["scenes-dit"] == "" and found["sd15"] == "" and "flux-dev" not in found
    for name, spec in MODELS.items():
        assert found.get(name) == options_that_fit(spec, Memory(6 * GIB))
    table = CliRunner().invoke(app, ["models", "--fit"]).stdout
    assert all(name in table for name in found) and "…" not in table and "6.0 GiB are free" in " ".join(table.split())


def test_extras_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2.7",
        "cvat-sdk[masks]>=2.40; (python_version >= '3.11') and extra == 'all'",
        "numpy>=1; extra == 'all'",
        "no-such-package-of-goca>=0.3; extra == 'all'",
        "cvat-sdk[masks]>=2.40; (python_version >= '3.11') and extra == 'cvat'",
        "numpy>=1; extra == 'serve'",
        "no-such-package-of-goca>=0.3; extra == 'serve'",
        "pytest; extra == 'test'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _name: lines)
    assert doctor.optional_packages() == {"cvat": ["cvat-sdk"], "serve": ["numpy", "no-such-package-of-goca"]}
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["extra serve"].value == "lacks no-such-package-of-goca"
    assert findings["extra serve"].advice == "pip install 'goca[serve]'"


def test_the_doctor_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.doctor.find_memory", lambda: Memory(2 * GIB))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert f"torch {torch.__version__}" in findings["libraries"]["value"]
    assert "2.0 GiB free" in findings["memory"]["value"]
    assert "scenes-dit" in findings["models that fit"]["value"] and "sdxl" in findings["too large"]["value"]
    text = CliRunner().invoke(app, ["doctor"]).stdout
    assert all(name in text for name in findings)


def test_a_full_disk_and_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: SimpleNamespace(free=GIB))
    spec = ModelSpec("gone", ("P",), "/no/such/folder", 128, parameters=1, vocabulary=("cat",))
    monkeypatch.setattr(doctor, "MODELS", {"gone": spec})
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["downloads"].advice.startswith("make room")
    assert (findings["embedded models"].value, findings["embedded models"].advice) == (
        "gone missing",
        "install goca again",
    )
