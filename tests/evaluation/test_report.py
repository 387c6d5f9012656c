"""The report of an evaluation: its tables, its examples, and the page in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from goca.evaluation.counting import Decision
from goca.evaluation.examples import TRUTH, as_result, choose_examples, show_examples, true_result
from goca.evaluation.experiment import Experiment
from goca.evaluation.report import class_rows, confusion_rows
from goca.evaluation.runner import Predicted, evaluate, predict
from goca.evaluation.summary import summarise
from goca.method import find_methods

NAMES = ("background", "cat", "dog", "grass")
FIRST = {
    "preset": "vanilla",
    "per_class": {"cat": 0.5, "dog": 0.4},
    "confusion": [[1, 1, 60], [1, 2, 40], [2, 2, 50], [2, 1, 10]],
}
SECOND = {
    "preset": "paper",
    "per_class": {"cat": 0.25, "dog": 0.75, "grass": 0.0},
    "confusion": [[1, 1, 90], [1, 3, 10], [2, 2, 30], [2, 1, 30]],
}


def test_classes_are_sorted_by_the_best_method_with_the_differences_to_the_first() -> None:
    rows = class_rows(NAMES, [FIRST, SECOND], SECOND)
    assert rows == [
        ("dog", [(40.0, None), (75.0, pytest.approx(35.0))]),
        ("cat", [(50.0, None), (25.0, pytest.approx(-25.0))]),
        ("grass", [(None, None), (0.0, None)]),
    ]


def test_confusions_are_shares_of_the_true_class() -> None:
    rows = confusion_rows(NAMES, [FIRST, SECOND], SECOND)
    assert [(true, found) for true, found, _ in rows] == [("dog", "cat"), ("cat", "grass")]
    assert rows[0][2] == [pytest.approx(100 / 6), 50.0] and rows[1][2] == [0.0, 10.0]


def test_examples_show_what_was_counted() -> None:
    data, model = toy.Toy(3), toy.segmenter()
    task = toy.task(data, "paper,daam")
    sample = data[0]
    true = true_result(sample.image, task.target(sample), task)
    assert true.classes[-1] == "background"
    for index, name in enumerate(true.classes):
        assert np.array_equal(true.labels == index, task.target(sample) == task.class_names.index(name))
    for step, predicted in enumerate(predict(model, sample, task).values()):
        shown = as_result(sample.image, predicted, step, task)
        names = np.array(shown.classes)[shown.labels]
        assert np.array_equal(names, np.array(task.class_names)[predicted.decision.labels(step)])


def test_an_image_in_which_nothing_was_looked_for_has_blank_maps() -> None:
    data = toy.Toy(3)
    zeros = np.zeros((30, 40), np.uint8)
    shown = as_result(data[0].image, Predicted(Decision(zeros, zeros, 1), (), None), 0, toy.task(data, "paper"))
    assert shown.classes == ("background",) and not shown.maps.any()


def test_a_class_has_one_colour_in_all_examples() -> None:
    data, model = toy.Toy(5), toy.segmenter()
    task = toy.task(data, "paper,daam")
    images = evaluate(model, data, task)
    results = summarise(images, task)["results"]
    groups = show_examples(model, data, task, choose_examples(images, task, results[0]), results)
    examples = [example for group in groups for example in group]
    assert len(examples) == 5
    colours: dict[str, set[str]] = {}
    for example in examples:
        assert [caption for caption, _, _ in example.pictures] == ["image", TRUTH, "paper", "daam"]
        for name, colour in example.legend:
            colours.setdefault(name, set()).add(colour)
        for entry in json.loads(example.explorer)["results"]:
            for channel in entry["channels"]:
                colours.setdefault(channel["name"], set()).add("#" + bytes(channel["colour"]).hex())
    assert len(colours) >= 3 and all(len(each) == 1 for each in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two methods on the toy data set."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goca.evaluation.experiment.open_dataset", lambda key, **options: toy.Toy(4))
        experiment = Experiment.open("voc", protocol="paper")
    methods = find_methods(["paper", "daam"])
    experiment.run(toy.segmenter(), methods, out=folder / "o", command="goca evaluate '<b>'")
    return folder / "o" / "report.html"


def test_command_and_date_stand_in_the_report(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "<code>goca evaluate &#39;&lt;b&gt;&#39;</code>" in text and re.search(
        r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", text
    )


@pytest.mark.parametrize("width", [1280, 500, 390])
def test_in_a_browser(browser: Any, report: Path, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=width == 500).new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(report.as_uri())
    page.locator("details.look summary").first.click()
    page.locator(".goca-explorer .tile").first.wait_for()
    assert page.locator(".goca-explorer").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 500:
        found = axe.Axe().run(page).response["violations"]
        assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []
    page.context.close()
    assert not problems
