"""Modules in the current folder, such as a ``sympy.py`` beside the images, are never run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import goca
from goca import _safe_path
from goca.datasets.scenes import make_scene

SOURCES = str(Path(goca.__file__).parents[1])
NAMES = """
PIL accelerate bitsandbytes boto3 cloudpickle cv2 diffusers einops filelock flash_attn fsspec gcsfs httpx jax jaxtyping
jinja2 matplotlib msgpack numpy onnx openai pandas peft psutil pyarrow pycocotools ray requests rich s3fs safetensors
scipy sentencepiece setproctitle sklearn sympy tensorflow tokenizers torch torchaudio torchvision tqdm transformers
triton typer xformers yaml
__future__ code copy csv ctypes dataclasses difflib hashlib html http inspect json logging multiprocessing pickle queue
random resource secrets shutil site socket statistics string subprocess tempfile test token tokenize typing urllib user
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of modules that leave a mark where one of them is run."""
    folder = tmp_path / "current"
    folder.mkdir()
    mark = tmp_path / "ran"
    for name in NAMES.split():
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write('{name} ')\nraise SystemExit(9)\n")
    make_scene(0, 0).image.save(tmp_path / "scene.png")
    return folder


def run(folder: Path, *arguments: str, code: int = 0, path: str = SOURCES) -> str:
    environment = {**os.environ, "PYTHONPATH": path, "OPENAI_API_KEY": "k"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    mark = folder.parent / "ran"
    assert not mark.exists(), f"ran {mark.read_text()}"
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


COMMANDS = {
    "models": ["models", "--json"],
    "scenes": ["scenes", "--count", "1", "--out", "../scenes"],
    "evaluate": ["evaluate", "--limit", "1", "--presets", "vanilla", "--out", "../out"],
    "generate": ["generate", "cat, grass", "--steps", "2", "--guidance", "cfg", "--out", "../out"],
    "ablate": ["ablate", "--limit", "1", "--out", "../out"],
    "observe": ["observe", "../scene.png", "--classes", "sky,grass", "--at", "9,9", "--out", "../out"],
    "reproduce": [
        "reproduce",
        "ablation",
        "--datasets",
        "scenes",
        "--models",
        "scenes-dit",
        "--limit",
        "1",
        "--out",
        "../out",
    ],
    "caption": ["caption", "--source", "classes", "--dataset", "scenes", "--limit", "1", "--out", "../captions.json"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_no_module_of_the_current_folder(command: str, hostile: Path) -> None:
    run(hostile, "-m", "goca", *COMMANDS[command])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bench", "no-such-model"], 2, "unknown model 'no-such-model'"),
        (
            ["caption", "../scene.png", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--timeout", "1"],
            2,
            "cannot reach",
        ),
        (
            ["segment", "../scene.png", "--classes", "sky,grass", "--fast", "--ray", "--out", "../out"],
            0,
            "1 of 1 images",
        ),
    ],
)
def test_child_processes_and_optional_packages_run_none_either(
    words: list[str], code: int, said: str, hostile: Path
) -> None:
    assert said in run(hostile, "-m", "goca", *words, code=code)


def test_an_empty_entry_of_the_path_means_nothing(hostile: Path) -> None:
    assert "scenes-dit" in run(hostile, "-m", "goca", "models", path=os.pathsep + SOURCES)


def test_a_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("from goca import Method, register_preset\nregister_preset('mine', Method())\n")
    path = os.pathsep.join([str(tmp_path), SOURCES])
    assert "scenes-dit" in run(tmp_path, "-m", "goca", "--plugin", "rules", "models", path=path)
    assert "cannot load the plugin rules" in run(tmp_path, "-m", "goca", "--plugin", "rules", "models", code=2)
    assert "scenes-dit" in run(tmp_path, "-m", "goca", "--plugin", "rules.py", "models")


def test_only_the_program_changes_the_path(hostile: Path) -> None:
    code = "import sys; before = list(sys.path); import goca; assert sys.path == before and sys.path[0] == ''"
    run(hostile.parent, "-c", code)


def test_where_goca_lies_stays_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SOURCES)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["", SOURCES, "/elsewhere"])
    assert _safe_path.safe_path() == ["/elsewhere", os.path.realpath(SOURCES)]


@pytest.mark.parametrize(
    ("argv", "original", "expected"),
    [
        (["-m", "models"], ["python", "-m", "goca", "models"], True),
        (["-m"], ["python", "-B", "-m", "goca.bench"], True),
        (["-m"], ["python", "-mgoca"], True),
        (["-m", "goca"], ["python", "-m", "other", "goca"], False),
        (["-m"], ["python", "-m", "gocart"], False),
        (["/usr/bin/goca", "models"], ["python", "/usr/bin/goca", "models"], True),
        (["goca.exe"], ["python", "goca.exe"], True),
        (["-c"], ["python", "-c", "import goca"], False),
        (["mine.py"], ["python", "mine.py"], False),
        ([], ["embedded"], False),
    ],
)
def test_what_is_the_program(
    argv: list[str], original: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert _safe_path.is_program() is expected


def test_children_get_the_path_and_their_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "current/child.py").write_text("raise SystemExit(9)")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed/child.py").write_text("import json, sys; print(json.dumps([sys.argv[1:], __name__]))")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "installed"), *sys.path])
    done = subprocess.run(_safe_path.child_command("child", ["a b", "é"]), capture_output=True, check=True)
    assert json.loads(done.stdout) == [["a b", "é"], "__main__"]
