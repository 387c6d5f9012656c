"""The same work on a local Ray cluster of two workers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import dataset as arrow
from pyarrow import parquet
from typer.testing import CliRunner

from goca import Segmenter
from goca.cli import app
from goca.datasets.scenes import make_scene

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="needs pip install 'goca[ray]'")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def evaluation(out: Path, *more: object) -> dict:
    run("evaluate", "--limit", 6, "--seed", 3, "--batch", 1, "--presets", "vanilla,paper", "--out", out, *more)
    return json.loads((out / "results.json").read_text())


def worker_processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "Evaluator" in " ".join(each.cmdline())]


def test_two_workers_count_what_one_process_counts_even_when_one_is_killed(tmp_path: Path) -> None:
    alone = evaluation(tmp_path / "alone")
    killed: list[int] = []

    def kill_one() -> None:
        for _ in range(600):
            for process in worker_processes()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return
            time.sleep(0.1)

    killer = threading.Thread(target=kill_one)
    killer.start()
    together = evaluation(tmp_path / "together", "--ray", "--workers", 2)
    killer.join()
    assert killed
    assert together == alone
    records = [json.loads(line) for line in (tmp_path / "together/records.jsonl").read_text().splitlines()[1:]]
    assert sorted(record["index"] for record in records) == list(range(6))


def test_a_folder_and_a_table_of_images_become_parquet(tmp_path: Path) -> None:
    scene = make_scene(8, 0)
    folder = tmp_path / "images"
    folder.mkdir()
    scene.image.save(folder / "scene.png")
    (folder / "broken.png").write_bytes((folder / "scene.png").read_bytes()[:300])
    rows = [{"path": path.name, "bytes": path.read_bytes()} for path in sorted(folder.iterdir())]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "images.parquet")
    expected = Segmenter.from_pretrained()(scene.image, scene.classes).labels
    for source, out in ((folder, tmp_path / "a"), (tmp_path / "images.parquet", tmp_path / "b")):
        said = run("segment", source, "--classes", scene.caption, "--out", out, "--ray", code=1)
        assert "broken.png is damaged or cut short" in said and "1 of 2 images segmented" in said
        found = {Path(row["path"]).name: row for row in arrow.dataset(out).to_table().to_pylist()}
        assert found["broken.png"]["error"] and not found["broken.png"]["labels"]
        row = found["scene.png"]
        assert (row["height"], row["width"], row["classes"]) == (128, 128, list(scene.classes))
        assert np.array_equal(np.asarray(Image.open(BytesIO(row["labels"]))), expected)
        assert set(json.loads(row["rle"])) == set(scene.classes)


def test_the_threshold_reaches_the_workers(tmp_path: Path) -> None:
    make_scene(8, 0).image.save(tmp_path / "scene.png")
    words = ("segment", tmp_path / "scene.png", "--classes", "sky,grass", "--threshold", 1, "--out", tmp_path / "out")
    run(*words, "--ray")
    (row,) = arrow.dataset(tmp_path / "out").to_table().to_pylist()
    assert row["classes"] == ["sky", "grass", "background"]
    assert (np.asarray(Image.open(BytesIO(row["labels"]))) == 2).mean() > 0.9  # no class scores more than 1


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_workers_take_the_options_of_one_process(tmp_path: Path) -> None:
    scenes = [make_scene(8, index) for index in range(3)]
    folder = tmp_path / "images"
    folder.mkdir()
    for index, scene in enumerate(scenes):
        scene.image.save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    rows = [f'{index}.png,"{scene.caption}"' for index, scene in enumerate(scenes)]
    (tmp_path / "images.csv").write_text("\n".join(["image,classes", *rows, "broken.png,cat"]))
    words = ["segment", folder, "--captions", tmp_path / "images.csv", "--seed", 1, "--ignore-below", 0.05]
    words += ["--format", "labels,json,coco", "--background", "umbrella"]
    assert "3 of 4 images segmented" in run(*words, "--out", tmp_path / "alone", code=1)
    said = run(*words, "--out", tmp_path / "together", "--ray", code=1)
    assert "broken.png is damaged or cut short" in said and "3 of 4 images segmented" in said
    assert files(tmp_path / "together") == files(tmp_path / "alone")

    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes())
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "together").glob("[0-9].json")}
    for out, more in (("alone", ()), ("together", ("--ray", "--batch", 2))):
        run(*words, "--out", tmp_path / out, "--resume", *more)
    assert files(tmp_path / "together") == files(tmp_path / "alone")
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--ray", "--workers", 0], "workers"),
        (["segment", "gone", "--classes", "sky", "--ray"], "cannot read gone"),
        (["segment", "gone", "--classes", "sky", "--ray", "--format", "labels"], "no such image file: gone"),
        (["segment", "a.parquet", "--classes", "sky", "--ray", "--format", "labels"], "needs --ray and no --format"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[object], message: str, tmp_path: Path) -> None:
    assert message in run(*arguments, "--out", tmp_path / "out", code=2)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert "pip install 'goca[ray]'" in run("evaluate", "--limit", 1, "--ray", "local", code=2)
