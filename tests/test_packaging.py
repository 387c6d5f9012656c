"""The distributions: what is in them, what package indexes show, and the wheel at work outside the repository.

``make test-wheel`` installs the wheel with its dependencies into an empty environment, for which it needs a package
index; here the dependencies are those of the tests.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

from goca.datasets.scenes import make_scene
from goca.doctor import optional_packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("the tests read pyproject.toml with Python 3.11 or newer", allow_module_level=True)

ROOT = Path(__file__).parents[1]
MIB = 2**20
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program's answer; a failure shows what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution that the wheel is built from."""
    pytest.importorskip("build", reason="the tools that build are not installed (pip install -e '.[lint]')")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


@pytest.mark.slow
def test_distributions_pass_the_checks_of_package_indexes(distributions: Path, wheel: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir())
    run(sys.executable, "-m", "check_wheel_contents", wheel)


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_nothing_large_twice(wheel: Path) -> None:
    assert wheel.stat().st_size < 60 * MIB
    with zipfile.ZipFile(wheel) as archive:
        files = archive.infolist()
    large = [file.CRC for file in files if file.file_size > 64 * 1024]
    assert len(large) == len(set(large))
    names = {file.filename for file in files}
    assert {"goca/py.typed", "goca/embedded/weights/vae/diffusion_pytorch_model.safetensors"} <= names
    assert not [name for name in names if name.startswith(("tests", "docs")) or "/judge/" in name]


@pytest.mark.slow
def test_the_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    scene = make_scene(seed=2026, index=0)
    scene.image.save(tmp_path / "scene.png")
    program = (sys.executable, "-m", "goca")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "requires", lambda _name: metadata(wheel).get_all("Requires-Dist"))
        found = optional_packages()
    assert {"caption", "cvat", "serve"} <= found.keys() and not {"test", "lint", "train"} & found.keys()
    where = run(sys.executable, "-c", "import goca; print(goca.__file__)", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    assert Path(where.strip()).is_relative_to(site)
    classes = ("--classes", ",".join(scene.classes), "--json")
    for model in ("scenes-dit", "scenes-unet", "scenes-mmdit"):
        words = ("segment", "scene.png", *classes, "--model", model, "--out", model)
        answer = json.loads(run(*program, *words, cwd=tmp_path, PYTHONPATH=str(site)).stdout)
        assert all(Path(tmp_path, file).is_file() for file in answer["results"][0]["files"].values())


@pytest.mark.slow
def test_the_description_has_no_relative_links(wheel: Path) -> None:
    text = str(metadata(wheel).get_payload())
    assert text.strip().startswith("# goca") and "# Changelog" not in text
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)|(?:src|href)=\"(?!https?://|#)[^\"]*\"", text)


@pytest.mark.slow
def test_the_source_distribution_builds_and_tests(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    needed = {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "constraints.txt", "Makefile"}
    assert needed <= names and "tests/conftest.py" in names and "integrations/comfyui/__init__.py" in names


def test_relative_links_become_texts() -> None:
    pytest.importorskip("hatchling", reason="the tools that build are not installed (pip install -e '.[lint]')")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (
        "![a picture](docs/a.png)\n\nSee [docs/b.md](docs/b.md), [the method](docs/c.md#part), [`x.py`](x.py),\n"
        '[the paper](https://arxiv.org/abs/1), [above](#top). <img alt="z" src="docs/z.png" width="3">'
        '<a href="LICENSE">the licence</a> <img src="https://a.example/b.png">'
    )
    assert module.without_relative_links(text) == (
        "See `docs/b.md`, the method (`docs/c.md#part`), `x.py`,\n"
        '[the paper](https://arxiv.org/abs/1), [above](#top). the licence <img src="https://a.example/b.png">'
    )


def test_all_is_every_extra_for_users() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.fullmatch(r"goca\[(.*)\]", everything)[1].split(","))  # type: ignore[index]
    assert named == extras.keys() - {"all", "app", "test", "lint", "train"}


def test_the_tests_extra_has_what_the_users_extras_have() -> None:
    extras = PROJECT["optional-dependencies"]
    untested = {"metrics"}  # torch-fidelity and its weights are measured with, not tested
    for name in extras.keys() - untested - {"all", "app", "test", "lint", "train"}:
        assert set(extras[name]) <= set(extras["test"]), name
