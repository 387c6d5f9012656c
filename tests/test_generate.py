"""``goca generate`` and what it is made of, on tiny pipelines with random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from pycocotools import mask as coco_mask
from tiny import parts
from typer.testing import CliRunner, Result

from goca.cli import app
from goca.datasets.folder import Folder
from goca.guidance import generate
from goca.guidance.generate import Generator, name_things
from goca.guidance.table import DatasetFolder, Row, read_rows
from goca.segmenter import Segmenter
from goca.text.prompt import mentioned_classes

Run = Callable[..., Result]
PROMPT = "cat, grass"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unet_folder: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    fixed = ("--model", str(unet_folder), "--steps", "3")
    return lambda *words: CliRunner().invoke(app, ["generate", *map(str, words), *fixed])


def refusal(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("goca: "))


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_prompt_with_everything(run: Run, tmp_path: Path) -> None:
    answer = json.loads(run(PROMPT, "--segment", "--show-masks", "--compare", "--size", "48x32", "--json").stdout)
    assert answer["classes"] == ["cat", "grass"] and answer["notes"] == []
    written = {key: Path(path) for key, path in answer["files"].items()}
    assert {
        "image",
        "labels",
        "overlay",
        "heat cat",
        "heat grass",
        "json",
        "caption",
        "masks",
        "compare",
        "page",
    } == set(written)
    assert files(tmp_path / "goca-out") == {path.name for path in written.values()}
    assert Image.open(written["image"]).size == Image.open(written["labels"]).size == (48, 32)
    assert written["caption"].read_text() == "cat, grass\n"
    page = Path(written["page"]).read_text(encoding="utf-8")
    shown = json.loads(re.findall(r'id="goca-payload">(.*?)</script>', page)[0])
    assert [entry["name"] for entry in shown["results"]] == ["S-CFG with GoCA's masks", "plain guidance", "S-CFG"]
    assert [entry["image"] for entry in shown["results"]] == [0, 1, 2] and shown["title"] == PROMPT
    masks, compare = Image.open(written["masks"]), Image.open(written["compare"])
    assert compare.height > 2.5 * masks.height - 100 and masks.width == compare.width
    assert np.asarray(masks).std() > 10


def test_the_image_is_the_pipelines_own(run: Run, unet_folder: Path) -> None:
    segmenter = Segmenter.from_pretrained(str(unet_folder), device="cpu")
    drawn = {kind: Generator(segmenter, kind, steps=3)(PROMPT, 5).image for kind in ("cfg", "s-cfg", "goca")}
    assert len({image.tobytes() for image in drawn.values()}) == 3
    answer = json.loads(run(PROMPT, "--seed", 5, "--guidance", "cfg", "--json").stdout)
    assert np.array_equal(np.asarray(Image.open(answer["files"]["image"])), np.asarray(drawn["cfg"]))


def test_a_prompt_without_words_says_that_it_is_drawn_plainly(run: Run) -> None:
    result = run("the, and")
    assert result.exit_code == 0
    assert "note: the prompt 'the, and' names nothing, so its image is drawn with plain guidance" in result.stderr


def test_a_table_becomes_a_data_set(run: Run, tmp_path: Path) -> None:
    rows = ("prompt,seed,name", '"cat, grass",3,first', '"dog, sky",,')
    prompts = table(tmp_path / "p.csv", *rows)
    answer = json.loads(run("--csv", prompts, "--segment", "--out", "d", "--json").stdout)
    assert (answer["drawn"], answer["skipped"], answer["bad"]) == (2, 0, [])
    names = {f"{folder}/{name}.png" for folder in ("images", "labels") for name in ("first", "00001")}
    assert files(tmp_path / "d") == names | {"classes.txt", "captions.json", "annotations.json", "settings.json"}
    classes = (tmp_path / "d/classes.txt").read_text().splitlines()
    assert classes == ["cat", "grass", "dog", "sky"]
    captions = json.loads((tmp_path / "d/captions.json").read_text())
    assert captions == {"first.png": {"caption": "cat, grass"}, "00001.png": {"caption": "dog, sky"}}
    labels = np.asarray(Image.open(tmp_path / "d/labels/00001.png"))
    assert set(np.unique(labels)) <= {2, 3}
    coco = json.loads((tmp_path / "d/annotations.json").read_text())
    assert [each["name"] for each in coco["categories"]] == classes
    for each in coco["annotations"]:
        name = coco["images"][each["image_id"]]["file_name"]
        target = np.asarray(Image.open(tmp_path / "d/labels" / name)) == each["category_id"] - 1
        assert np.array_equal(coco_mask.decode(each["segmentation"]), target) and each["area"] == target.sum() > 0

    (tmp_path / "d/images/first.png").unlink()
    before = (tmp_path / "d/images/00001.png").stat().st_mtime_ns
    prompts = table(tmp_path / "p.csv", *rows, '"palm tree, sky",1,third')
    answer = json.loads(run("--csv", prompts, "--segment", "--out", "d", "--json").stdout)
    assert (answer["drawn"], answer["skipped"]) == (2, 1)
    assert (tmp_path / "d/images/00001.png").stat().st_mtime_ns == before
    assert (tmp_path / "d/classes.txt").read_text().split("\n")[:5] == [*classes, "palm tree"]
    assert len(json.loads((tmp_path / "d/captions.json").read_text())) == 3


def test_the_published_tables_of_prompts(run: Run, tmp_path: Path) -> None:
    prompts = table(tmp_path / "p.csv", "image_id,text", '139,"cat, grass"', "285,dog")
    answer = json.loads(run("--csv", prompts, "--seed", 42, "--guidance", "cfg", "--out", "d", "--json").stdout)
    assert (answer["drawn"], answer["bad"]) == (2, [])
    with Image.open(tmp_path / "d/images/139.png") as image:
        assert (image.info["prompt"], image.info["seed"]) == ("cat, grass", "42")
    both = table(tmp_path / "q.csv", "image_id,text,prompt,name", "1,dog,cat,own")
    assert read_rows(both)[0] == [Row(2, "own", "cat", 0)]


def test_settings_of_the_segmentation(run: Run, tmp_path: Path) -> None:
    words = (PROMPT, "--segment", "--heads", "average", "--timestep", 600, "--threshold", 0.2)
    answer = json.loads(run(*words, "--out", "a", "--json").stdout)
    assert {"heads": "average", "timestep": 600, "threshold": 0.2}.items() <= answer["method"].items()
    assert "heat background" in answer["files"]
    other = json.loads(run(*words[:-4], "--timestep", 1, "--out", "b", "--json").stdout)
    heats = [Path(each["files"]["heat cat"]).read_bytes() for each in (answer, other)]
    assert heats[0] != heats[1]  # the maps of another step
    assert "settings of the method: timestep 600, heads average" in run(*words, "--out", "a", "--overwrite").stdout
    assert "the method's heads says how to segment; add --segment" in refusal(run(PROMPT, "--heads", "average"))
    assert "flip has no effect on images that are drawn" in refusal(run(PROMPT, "--segment", "--set", "flip=true"))

    prompts = table(tmp_path / "p.csv", "prompt,name", '"cat, grass",one')
    words = ("--csv", prompts, "--segment", "--threshold", 0.2, "--out", "d")
    assert run(*words).exit_code == 0
    assert Folder(tmp_path / "d").class_names == ("background", "cat", "grass")
    assert "is from a run with other settings (method)" in refusal(run(*words, "--heads", "average"))


def test_the_captions_of_sentences_are_their_classes(run: Run, tmp_path: Path) -> None:
    prompts = table(tmp_path / "p.csv", "prompt,name", "grass and a dog,one")
    classes = ("--classes", "cat", "--classes", "dog|puppy", "--classes", "grass")
    assert run("--csv", prompts, "--segment", *classes, "--out", "d").exit_code == 0
    assert (tmp_path / "d/classes.txt").read_text().splitlines() == ["cat", "dog", "grass"]
    dataset = Folder(tmp_path / "d")
    assert dataset[0].caption == "dog, grass"
    assert set(np.unique(dataset[0].labels)) <= {1, 2}


def test_an_interrupted_table_keeps_what_is_done(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = table(tmp_path / "p.csv", "prompt,name", "cat,one", "dog,two")
    add = DatasetFolder.add

    def stop(self: DatasetFolder, row: Row, result: generate.Generation) -> None:
        if row.name == "two":
            raise OSError("the disk is full")
        add(self, row, result)

    with monkeypatch.context() as patch:
        patch.setattr(DatasetFolder, "add", stop)
        assert "the disk is full" in refusal(run("--csv", prompts, "--out", "d"))
    assert files(tmp_path / "d") == {"images/one.png", "captions.json", "settings.json"}
    assert json.loads((tmp_path / "d/captions.json").read_text()) == {"one.png": {"caption": "cat"}}
    answer = json.loads(run("--csv", prompts, "--out", "d", "--json").stdout)
    assert (answer["drawn"], answer["skipped"]) == (1, 1)


def test_bad_rows_are_listed_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    lines = [
        "prompt,seed,name",
        "cat,x,",
        ",1,",
        "dog,1,a",
        "sky,1,A",
        "cat,1,../b",
        "grass,1,b,c",
        "cat " * 20 + ",1,",
    ]
    result = run("--csv", table(tmp_path / "p.csv", *lines), "--out", "d", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["drawn"] == 1 and files(tmp_path / "d") == {"images/a.png", "captions.json", "settings.json"}
    expected = (
        "line 2: the seed 'x' is no whole number",
        "line 3: it has no prompt",
        "line 5: the name 'A' is already taken",
        "line 6: the name '../b' is no file name",
        "line 7: it has more fields than there are columns",
        "line 8: the prompt 'cat cat cat",
    )
    assert len(answer["bad"]) == len(expected)
    for found, start in zip(answer["bad"], expected, strict=True):
        assert found.startswith(start)
    changed = table(tmp_path / "p.csv", "prompt,seed,name", "dog,2,a")
    result = run("--csv", changed, "--out", "d", "--json")
    assert result.exit_code == 1
    assert "line 2: a.png is there already, drawn from another prompt or seed" in json.loads(result.stdout)["bad"][0]


def test_other_folders_are_left_alone(run: Run, tmp_path: Path) -> None:
    prompts = table(tmp_path / "p.csv", "prompt", "cat")
    assert run("--csv", prompts, "--out", "d").exit_code == 0
    assert "d is from a run with other settings (scale)" in refusal(run("--csv", prompts, "--out", "d", "--scale", 3))
    assert "d is from a run with other settings (segment, classes)" in refusal(
        run("--csv", prompts, "--out", "d", "--segment", "--classes", "cat")
    )
    (tmp_path / "e").mkdir()
    (tmp_path / "e/diary.txt").write_text("mine")
    assert "e is not empty and not from an earlier run" in refusal(run("--csv", prompts, "--out", "e"))
    assert files(tmp_path / "e") == {"diary.txt"}
    assert "is a file" in refusal(run(PROMPT, "--out", prompts))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give one prompt, or a table of prompts with --csv"),
        ((PROMPT, "--guidance", "pag"), "unknown guidance 'pag'; choose one of cfg, s-cfg, goca"),
        ((PROMPT, "--scale", 1), "guidance needs a scale above 1, not 1"),
        ((PROMPT, "--size", "big"), "the size 'big' is neither one side like 512 nor width x height"),
        ((PROMPT, "--size", 33), "draws sizes that are multiples of 2, not 33 x 33"),
        ((PROMPT, "--segment", "--classes", " , "), 'name at least one class, for example --classes "cat,grass,sky"'),
        ((PROMPT, "--classes", "cat"), "--classes says what to segment; add --segment"),
        (("a cat on the grass", "--segment"), "say which things of the prompt to segment, for example --classes"),
        ((PROMPT, "--segment", "--classes", "dog"), "does not mention 'dog'"),
        (("cat, " * 20,), "has 40 tokens, which is longer than the text encoder's limit of 16"),
        (("--csv", "none.csv"), "none.csv: No such file or directory"),
        (("--csv", "p.csv", "--compare"), "--show-masks and --compare draw one prompt; leave out --csv"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:
    assert sentence in refusal(run(*words))
    assert files(tmp_path) == set()


def test_tables_that_are_none(tmp_path: Path) -> None:
    for lines, sentence in ((["texts", "cat"], "has no column 'prompt'"), (["prompt"], "has no line below")):
        with pytest.raises(ValueError, match=sentence):
            read_rows(table(tmp_path / "p.csv", *lines))
    (tmp_path / "p.csv").write_bytes(b"prompt\n\xff\xfe")
    with pytest.raises(ValueError, match="is no CSV file in UTF-8"):
        read_rows(tmp_path / "p.csv")


def test_a_distilled_model_says_which_guidance_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = parts.save(tiny.flux.build(), tmp_path / "flux")
    result = CliRunner().invoke(app, ["generate", PROMPT, "--model", str(folder)])
    assert "is guidance-distilled and takes the scale as an input" in refusal(result)


def test_flux_without_embedded_guidance_is_guided_by_the_empty_prompt() -> None:
    pipeline = tiny.flux.build(guidance_embeds=False)
    pipeline.vae.register_to_config(shift_factor=0.0)
    make = Generator(Segmenter.from_pipeline(pipeline), scale=3.0, steps=2, size=(32, 48))
    options = make.options()
    assert (options["true_cfg_scale"], options["negative_prompt"]) == (3.0, "")
    assert options["max_sequence_length"] == 16 and "guidance_scale" not in options
    calls: list[int] = []
    pipeline.transformer.register_forward_hook(lambda _module, _inputs, _output: calls.append(1))
    drawn = {kind: make.like(kind)(PROMPT, 5).image.tobytes() for kind in ("cfg", "s-cfg", "goca")}
    assert len(set(drawn.values())) == 3 and len(calls) == 3 * 2 * 2
    distilled = Generator(Segmenter.from_pipeline(tiny.flux.build()), "cfg", scale=3.0).options()
    assert distilled["guidance_scale"] == 3.0 and "true_cfg_scale" not in distilled


def test_things_of_a_prompt() -> None:
    assert name_things("A cat,  the palm tree, sky.", None) == ["cat", "palm tree", "sky"]
    assert name_things("\u732b\uff0c\u8349\u5730\u3002", None) == ["\u732b", "\u8349\u5730"]
    assert name_things("a car and a tree on grass", ("tree", "palm tree", "car", "grass", "a")) == [
        "car",
        "tree",
        "grass",
    ]
    assert mentioned_classes(["person|man", "sky", "dog"], "a man under the sky") == ["person|man", "sky"]
    assert mentioned_classes(["palm  tree"], "a palm tree") == ["palm  tree"]
    with pytest.raises(ValueError, match="mentions none of the classes"):
        mentioned_classes(["dog"], "hot dogs")
