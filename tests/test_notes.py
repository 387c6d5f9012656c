"""Notes reach Python users: warnings at their own line, the log ``goca``, and nothing else on standard error."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from goca import GocaWarning, Segmenter, SemanticGuidance
from goca.cli import app
from goca.datasets.scenes import make_scene
from goca.notes import captured_messages, log, notify

IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("scenes-dit")


def test_a_result_with_a_note_warns_once_at_the_line_of_the_call(segmenter: Segmenter) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        results = segmenter([IMAGE, IMAGE], ["sky"])
    notes = {note for result in results for note in result.notes}
    assert len(notes) >= 1 and {str(each.message) for each in found} == notes and len(found) == len(notes)
    assert all(each.category is GocaWarning and each.filename == __file__ for each in found)


def test_a_result_without_notes_warns_of_nothing(segmenter: Segmenter) -> None:
    scene = make_scene(0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert segmenter(scene.image, scene.classes).notes == ()


def test_guidance_warns_too(segmenter: Segmenter) -> None:
    pipeline = segmenter.model.pipeline
    with SemanticGuidance(segmenter, "cfg", segment=True) as guidance:
        drawn = pipeline("cat, sky", num_inference_steps=2, guidance_scale=2.0, height=128, width=128).images[0]
    with pytest.warns(GocaWarning, match="'cat' gets every pixel"):
        guidance.segmentation(drawn, ["cat"])


def test_the_program_prints_notes_and_warns_of_nothing(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = ["segment", str(tmp_path / "a.png"), "--classes", "sky", "--fast", "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and result.stderr.count("note: 'sky' gets every pixel") == 1


def test_the_log_has_one_name_and_shows_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "goca"), pytest.warns(GocaWarning, match=r"a\\x1b\\nb"):
        notify(["a\x1b\nb"])
        log.info("read %s", "x\r")
    assert caplog.messages == [r"a\x1b\nb", r"read x\r"]
    assert {record.name for record in caplog.records} == {"goca"}


def test_messages_of_libraries_are_captured_in_their_thread_alone() -> None:
    library = logging.getLogger("diffusers.pipelines")
    shown: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)
    try:
        with captured_messages() as first:
            with captured_messages() as second:
                library.warning("inner")
            other = threading.Thread(target=lambda: library.warning("other"))
            other.start()
            other.join()
        library.warning("after")
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert shown == ["other", "after"] and "inner" in first + second and not handler.filters


def damage_config(folder: Path) -> None:
    path = folder / "transformer/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 7, "unknown": 1}))


def damage_text_encoder(folder: Path) -> None:
    (folder / "text_encoder/config.json").write_text("{}")


def cut_weights(folder: Path) -> None:
    next((folder / "transformer").glob("*.safetensors")).write_bytes(b"123")


@pytest.mark.parametrize("damage", [damage_config, damage_text_encoder, cut_weights])
def test_damaged_models_are_one_sentence_from_python_and_from_the_program(
    damage: Callable[[Path], None], dit_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(dit_folder, tmp_path / "model")
    damage(folder)
    capfd.readouterr()
    with pytest.raises((ValueError, OSError), match=r"get the model again|give a complete local folder"):
        Segmenter.from_pretrained(str(folder))
    said = capfd.readouterr().err
    assert "initialized" not in said and "REPORT" not in said and "config attributes" not in said
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    words = [
        "segment",
        str(tmp_path / "a.png"),
        "--classes",
        "cat",
        "--model",
        str(folder),
        "--out",
        str(tmp_path / "o"),
    ]
    result = CliRunner().invoke(app, words)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and line.startswith("goca: ") and not (tmp_path / "o").exists()
