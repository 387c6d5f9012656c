"""Synonyms of a user's own list of classes, asked for as those of ``--classes``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evaluation.toy import Toy, segmenter, task
from PIL import Image

from goca.datasets import open_dataset
from goca.evaluation.runner import evaluate_indices
from goca.text.align import align
from goca.text.prompt import build_prompt


def test_a_text_of_names_holds_all_synonyms_where_they_are_asked_for() -> None:
    toy = Toy(background=False)
    assert task(toy, all_synonyms=True).caption(toy[0], [0, 1, 2]) == "cat, (dog, hound), (grass, lawn)"
    assert task(toy).caption(toy[0], [0, 1, 2]) == "cat, dog, grass"
    assert not any("error" in each.to_json() for each in evaluate_indices(segmenter(), toy, [0], task(toy)))


def test_a_class_list_and_the_command_line_give_the_same_tokens() -> None:
    backbone, toy = segmenter().model.backbone, Toy(background=False)
    caption = task(toy, all_synonyms=True).caption(toy[0], [0, 1])
    options = {"max_length": backbone.max_tokens}
    aligned = align(
        caption, toy.classes, [0, 1], backbone.token_spans, append_missing=False, append_background=False, **options
    )
    prompt = build_prompt(["cat", "dog|hound"], backbone.token_spans, **options)
    assert aligned.prompt.text == prompt.text == "cat, dog, hound"
    assert [each.tokens for each in aligned.prompt.classes] == [each.tokens for each in prompt.classes]


def test_a_folder_asks_for_all_synonyms_and_benchmarks_do_not(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "labels" / "a.png")
    (tmp_path / "classes.txt").write_text("cat|kitten\n", encoding="utf-8")
    assert open_dataset("folder", tmp_path).asks_for_synonyms and not open_dataset("scenes", limit=1).asks_for_synonyms
