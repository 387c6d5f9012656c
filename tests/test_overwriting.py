"""Files of the user are not lost, files of earlier runs do not stay: every command that writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_result import segmentation
from typer.testing import CliRunner, Result

from goca import Segmenter
from goca.cli import app
from goca.datasets.folder import Folder
from goca.export import Exporter
from goca.guidance.drawing import choose_stem
from goca.segment_many import segment_many
from goca.storage.png import read_texts, write_png

Run = Callable[..., Result]
Tree = dict[str, bytes]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    for seed, name in enumerate(("photo.png", "second.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return [tmp_path / "photo.png", tmp_path / "second.png"]


@pytest.fixture(scope="module")
def segmenter(dit_folder: Path) -> Segmenter:
    return Segmenter.from_pretrained(str(dit_folder), device="cpu")


def tree() -> Tree:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(run: Run, message: str, *words: Any) -> None:
    """The command ends with 2 and one sentence, and nothing has changed."""
    before = tree()
    result = run(*words)
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert message in result.stderr and tree() == before and not list(Path().rglob(".goca-*"))


def test_segment(run: Run, photos: list[Path], dit_folder: Path) -> None:
    words = ("segment", *photos, "--model", dit_folder, "--out", "o", "--classes")
    Path("o").mkdir()
    Path("o/second.json").write_text("mine")
    refused(run, "o/second.json exists already; replace it with --overwrite", *words, "cat,dog")
    Path("o/second.json").unlink()
    assert run(*words, "cat,dog").exit_code == 0
    assert Path("o/photo_heat_dog.png").exists()
    Image.new("L", (1, 1)).save("o/photo_heat_mine.png")
    refused(run, "o/segmentations.jsonl holds results already; continue them with --resume", *words, "cat,sky")
    refused(run, "o/photo_labels.png exists already", *words[:1], photos[0], *words[3:], "cat,sky")
    for name in ("photo_labels.png", "photo_heat_cat.png", "photo_overlay.png", "photo.json"):
        Path("o", name).unlink()
    refused(run, "o/photo_heat_dog.png exists already", *words[:1], photos[0], *words[3:], "sky,sea")
    assert run(*words, "cat,sky", "--overwrite").exit_code == 0
    heat = sorted(path.name for path in Path("o").glob("photo_heat_*"))
    assert heat == ["photo_heat_cat.png", "photo_heat_mine.png", "photo_heat_sky.png"]


def test_outputs_that_are_inputs(run: Run, photos: list[Path], dit_folder: Path) -> None:
    photos[1].rename("photo_overlay.png")
    words = ("segment", "photo.png", "photo_overlay.png", "--classes", "cat,sky", "--model", dit_folder)
    for more in ((), ("--overwrite",)):
        refused(run, "photo_overlay.png is an input of this run", *words, "--out", ".", *more)
    Path("photo_heat.png").symlink_to("photo.png")
    twice = ("segment", "photo.png", "photo_heat.png", "--classes", "labels,sky", "--model", dit_folder)
    refused(run, "two images would be written to o/photo_heat_labels.png; rename one", *twice, "--out", "o")


def test_a_late_refusal_leaves_whole_images_and_says_which(
    segmenter: Segmenter, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    segment_batch = Segmenter.segment_batch

    def fail(self: Segmenter, pictures: Any, *words: Any) -> Any:
        calls.append(pictures)
        if len(calls) == 2:
            raise ValueError("the maps are not finite")
        return segment_batch(self, pictures, *words)

    monkeypatch.setattr(Segmenter, "segment_batch", fail)
    paths, formats = [str(path) for path in photos], ["labels", "coco"]
    with pytest.raises(
        ValueError, match=r"maps are not finite \(1 of 2 images are whole in .*/o: .*photo.png; go on with"
    ):
        segment_many(segmenter, paths, ["cat", "sky"], tmp_path / "o", formats=formats)
    assert {path.name for path in (tmp_path / "o").glob("[!.]*")} == {"photo_labels.png", "segmentations.jsonl"}
    segment_many(segmenter, paths, ["cat", "sky"], tmp_path / "o", formats=formats, resume=True)
    images = json.loads((tmp_path / "o/annotations.json").read_text())["images"]
    assert [each["file_name"] for each in images] == ["photo.png", "second.png"]
    with pytest.raises(ValueError, match=r"^the maps are not finite$"):
        calls[:] = [None]
        segment_many(segmenter, paths, ["cat", "sky"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_results_without_a_name_get_one_each(tmp_path: Path) -> None:
    results = [segmentation(), segmentation(20, 20), segmentation(9, 5)]
    threads = [threading.Thread(target=result.save, args=[tmp_path]) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = {Image.open(path).size for path in tmp_path.glob("*_labels.png")}
    assert sizes == {(90, 60), (20, 20), (9, 5)}
    assert {path.name for path in tmp_path.glob("*.json")} == {"image.json", "image-2.json", "image-3.json"}


@pytest.mark.parametrize("name", ["coco", "folder", "parquet"])
def test_files_of_all_images(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.export.parquet.ROWS_PER_FILE", 1)
    monkeypatch.chdir(tmp_path)

    def write(*stems: str, **options: Any) -> Tree:
        exporter = Exporter("o", [name], **options)
        for stem in stems:
            exporter.add(segmentation(), stem)
        exporter.finish()
        return tree()

    both = write("a", "b")
    with pytest.raises(FileExistsError, match="exists already; replace it with --overwrite"):
        write("c")
    assert tree() == both
    one = write("a", overwrite=True)
    assert one.keys() <= both.keys()
    assert name == "coco" or len(one) < len(both)
    with pytest.raises(FileExistsError):
        segmentation().save("o", formats=[name])


def test_scenes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from goca.datasets import write_scenes
    from goca.datasets.scenes import make_scene

    words = ("scenes", "--size", 32, "--out", "s")

    def stop(seed: int, index: int, size: int) -> Any:
        if index == 2:
            raise OSError(28, "No space left on device")
        return make_scene(seed, index, size)

    with monkeypatch.context() as patch:
        patch.setattr(write_scenes, "make_scene", stop)
        refused(run, "cannot write to the folder s (No space left on device)", *words, "--count", 3)
    assert run(*words, "--count", 3).exit_code == 0
    refused(run, "s/classes.txt exists already; replace it with --overwrite", *words, "--count", 1)
    Path("s/notes.txt").write_text("mine")
    assert run(*words, "--count", 1, "--seed", 5, "--overwrite").exit_code == 0
    assert len(Folder("s")) == 1 and Path("s/notes.txt").read_text() == "mine"
    Image.new("L", (1, 1)).save("s/images/mine.png")
    refused(run, "s/images/mine.png was not written by goca", *words, "--overwrite")


def test_prompts_with_the_same_beginning(run: Run, unet_folder: Path) -> None:
    fixed = ("--model", unet_folder, "--steps", 1, "--guidance", "cfg", "--out", "o")
    Path("o").mkdir()
    Image.new("L", (1, 1)).save("o/dog-0.png")
    before = Path("o/dog-0.png").read_bytes()
    for prompt, name in (("dog", "dog-0-2"), ("Dog!", "dog-0-3")):
        result = run("generate", prompt, *fixed)
        assert result.exit_code == 0, result.output
        path = Path(result.stdout.strip())
        assert read_texts(path)["prompt"] == prompt and path.stem == name
    assert Path("o/dog-0.png").read_bytes() == before and len(tree()) == 3
    refused(run, "o/dog-0-2.png exists already", "generate", "dog", *fixed)
    long = "a very " * 20
    names = [choose_stem(Path("o"), long, 3)]
    write_png(Image.new("L", (1, 1)), Path("o", f"{names[0]}.png"), prompt=long, seed="3")
    names += [choose_stem(Path("o"), prompt, 3) for prompt in (long, long + "big")]
    assert names[0] == names[1] and names[2] == f"{names[0]}-2"


def test_a_drawing_replaces_all_of_the_earlier_one(run: Run, unet_folder: Path) -> None:
    fixed = ("--model", unet_folder, "--steps", 2, "--out", "o")
    assert run("generate", "cat, sky", *fixed, "--segment", "--compare").exit_code == 0
    assert len(tree()) == 9
    Path("o/cat-sky-0_labels.txt").write_text("mine")
    refused(run, "o/cat-sky-0.png exists already", "generate", "cat, sky", *fixed)
    assert run("generate", "cat, sky", *fixed, "--overwrite", "--show-masks").exit_code == 0
    assert {path.name for path in Path("o").iterdir()} == {
        "cat-sky-0.png",
        "cat-sky-0_masks.png",
        "cat-sky-0_labels.txt",
    }


def test_tables_of_prompts(run: Run, unet_folder: Path) -> None:
    fixed = ("generate", "--csv", "p.csv", "--segment", "--model", unet_folder, "--out", "o", "--steps")
    Path("p.csv").write_text('prompt,name\n"cat, sky",one\n"dog, sky",two\n')
    assert run(*fixed, 1).exit_code == 0
    whole = tree()
    refused(run, "is from a run with other settings (steps); choose another folder", *fixed, 2)

    Path("o/classes.txt").write_text("sky\ncat\ndog\n")
    refused(run, "o/classes.txt has changed since the labels were drawn", *fixed, 1)
    Path("o/classes.txt").write_bytes(whole["o/classes.txt"])
    captions = json.loads(whole["o/captions.json"])
    Path("o/captions.json").write_text(json.dumps(captions | {"one.png": {"caption": "mine"}}))
    refused(run, "o/captions.json has changed since: one.png is 'mine' and was 'cat, sky'", *fixed, 1)
    Path("o/captions.json").write_bytes(whole["o/captions.json"])

    Path("o/labels/one.png").unlink()
    Path("o/images/two.png").write_bytes(whole["o/images/two.png"][:-40])
    result = run(*fixed, 1)
    assert result.exit_code == 1 and "line 3: two.png is damaged" in result.stderr
    assert tree().keys() == whole.keys()
    Path("o/images/two.png").unlink()
    assert run(*fixed, 1).exit_code == 0 and tree() == whole

    Path("p.csv").write_text('prompt,name\n"dog, sky",two\n')
    assert run(*fixed, 1).exit_code == 0
    assert tree() == {
        **whole,
        "p.csv": Path("p.csv").read_bytes(),
        **{name: Path("o", name.removeprefix("o/")).read_bytes() for name in ("o/captions.json", "o/annotations.json")},
    }
    assert json.loads(Path("o/captions.json").read_text()) == captions
    assert run(*fixed, 2, "--overwrite").exit_code == 0
    assert [path.name for path in Path("o/images").iterdir()] == ["two.png"] and len(Folder("o")) == 1
    Image.new("L", (1, 1)).save("o/images/mine.png")
    refused(run, "o/images/mine.png was not written by goca", *fixed, 3, "--overwrite")
