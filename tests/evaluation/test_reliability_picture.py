"""The picture of reliability curves is drawn from answers of ``goca calibrate --json``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from goca.evaluation.reliability_picture import main

ANSWER = {
    "model": "tiny",
    "dataset": "toy",
    "bins": [{"masks": 3, "raw": raw, "calibrated": None, "iou": raw / 2} for raw in (0.1, 0.5, 0.9)],
}


def test_a_panel_for_each_answer(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures of curves need the extra train")
    answer, picture = tmp_path / "a.json", tmp_path / "a.png"
    answer.write_text(json.dumps(ANSWER))
    main([answer, answer], picture)
    assert Image.open(picture).width > 600
    with pytest.raises(FileExistsError, match="exists already"):
        main([answer], picture)
