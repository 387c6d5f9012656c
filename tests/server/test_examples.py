"""The clients of the folder ``examples``, against ``goca serve`` on a port."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from goca import Segmenter
from goca.datasets.scenes import make_scene

EXAMPLES = Path(__file__).parents[2] / "examples"
SCENE = make_scene(seed=2026, index=0)
CLASSES = ",".join(SCENE.classes)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a service of ``scenes-dit`` listens."""
    words = [sys.executable, "-u", "-m", "goca", "serve", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert match is not None
        ready, pause = False, threading.Event()
        while not ready:
            assert process.poll() is None
            try:
                ready = urllib.request.urlopen(f"{match[0]}/health").status == 200
            except OSError:
                pause.wait(0.2)
        yield match[0]
        process.terminate()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    SCENE.image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_ten_lines_of_python(address: str, photo: Path) -> None:
    program = EXAMPLES / "client.py"
    assert len([line for line in program.read_text().splitlines() if line.strip()]) <= 11  # one says what it is
    words = [sys.executable, program, photo, CLASSES, address]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    areas = Segmenter.from_pretrained("scenes-dit")(photo, CLASSES).areas
    assert lines == [f"{name}: {area:.0%} of the image" for name, area in areas.items()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_one_curl(address: str, photo: Path) -> None:
    words = ["sh", EXAMPLES / "client.sh", photo, CLASSES, address]
    picture = Image.open(BytesIO(subprocess.run(words, capture_output=True, check=True).stdout))
    expected = Segmenter.from_pretrained("scenes-dit")(photo, CLASSES).overlay()
    assert (picture.format, picture.size) == ("PNG", expected.size)
    refused = subprocess.run(
        ["sh", EXAMPLES / "client.sh", photo, "unicorn", address], capture_output=True, check=False
    )
    assert refused.returncode != 0 and b"unicorn" in refused.stdout
