"""The explorer in a browser: pointer, keys, stages, thresholds, files, widths, accessibility, silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from explorer.examples import HOSTILE, explanation, grey, segmentation
from goca.explorer import iframe, payload, save_page
from goca.maps.background import assign_labels
from goca.types import ScoreMaps

Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Shows results from a file; afterwards the console must be silent and nothing may have been asked for."""
    problems: list[str] = []
    contexts = []

    def show(results: Any, width: int = 1280, height: int = 900, **options: Any) -> Any:
        path = save_page(tmp_path / f"page-{len(contexts)}.html", payload(results, title="photo.jpg"))
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked(request.url, path))
        page.goto(path.as_uri())
        page.wait_for_selector(".tile")
        settle(page)
        return page

    def asked(address: str, path: Path) -> None:
        if address != path.as_uri() and not address.startswith(("data:", "blob:")):
            problems.append(f"request {address}")

    yield show
    for each in contexts:
        each.close()
    assert not problems


def settle(page: Any) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def ranking(page: Any) -> list[tuple[str, str]]:
    """Words and scores, as they are shown."""
    rows = page.locator(".ranking li")
    return [
        (rows.nth(at).locator(".word").inner_text(), rows.nth(at).locator(".share").inner_text())
        for at in range(rows.count())
    ]


def point(page: Any, u: float, v: float) -> None:
    """Move the pointer to a place of the picture, both from 0 to 1."""
    page.locator(".view").scroll_into_view_if_needed()
    box = page.locator(".view").bounding_box()
    page.mouse.move(box["x"] + u * box["width"], box["y"] + v * box["height"])
    settle(page)


def choose_stage(page: Any, label: str) -> None:
    page.get_by_role("radio", name=label).check(force=True)
    settle(page)


def colour_at(page: Any, u: float, v: float) -> list[int]:
    """The picture's pixel at a place."""
    return page.evaluate(
        """([u, v]) => { const view = document.querySelector(".view");
        return [...view.getContext("2d").getImageData(u * view.width, v * view.height, 1, 1).data].slice(0, 3); }""",
        [u, v],
    )


def set_range(page: Any, label: str, value: float) -> None:
    page.get_by_role("slider", name=label).fill(str(value))
    settle(page)


def test_the_pointer_ranks_the_words_with_the_scores_of_the_explanation(open_page: Open) -> None:
    example = explanation()
    page = open_page(example)
    choose_stage(page, "refined")
    point(page, 20.5 / 50, 10.5 / 30)
    expected = example.at(20, 10)
    shown = dict(ranking(page))
    assert page.locator(".where").inner_text() == f"Pixel 20, 10: {expected.label}"
    for name, score in zip(example.classes, expected.refined, strict=True):
        assert float(shown[name]) == pytest.approx(score, abs=0.01)
    scores = [float(score) for _, score in ranking(page)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1


def test_early_stages_rank_all_words_of_the_text(open_page: Open) -> None:
    example = explanation()
    page = open_page(example)
    choose_stage(page, "aggregated")
    point(page, 0.31, 0.55)
    shown = dict(ranking(page))
    assert set(shown) == {"cat", "grass", "background", "big", "start, end, padding", "commas, articles"}
    big = example.word_map("big")[int(0.55 * 30), int(0.31 * 50)]
    assert float(shown["big"]) == pytest.approx(big, abs=0.01)


def test_arrow_keys_move_the_pixel_and_say_so(open_page: Open) -> None:
    page = open_page(segmentation())
    page.locator(".view").focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".where").inner_text().startswith("Pixel 30, 20")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Shift+ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        settle(page)
    assert page.locator(".where").inner_text().startswith("Pixel 25, 21")
    page.wait_for_function(
        "() => document.querySelector('[role=status]').textContent.startsWith('Pixel 25, 21, labels: ')"
    )


def test_stages_are_stepped_by_keys_without_a_request(open_page: Open) -> None:
    example = explanation()
    page = open_page(example)
    names = [layer.name for layer in example.layers]
    page.get_by_role("radio", name=f"Layer {names[0]},").focus()
    page.keyboard.press("Space")
    seen = []
    for _ in range(len(names) + 4):
        settle(page)
        seen.append(page.locator(".says b").inner_text())
        page.keyboard.press("ArrowRight")
    assert seen == [
        *(f"Layer {at + 1}, {name}." for at, name in enumerate(names)),
        "Aggregated.",
        "Rescaled.",
        "Refined.",
        "Labels.",
    ]
    page.locator(".view").focus()
    page.keyboard.press("[")
    settle(page)
    assert page.locator(".says b").inner_text() in ("Layer 1, " + names[0] + ".", "Refined.")


def test_the_labels_are_those_of_the_result(open_page: Open) -> None:
    result = segmentation()
    page = open_page(result)
    set_range(page, "Opacity", 1)
    colours = page.evaluate(
        "() => [...document.querySelectorAll('.ranking .swatch')].map((each) => each.style.background)"
    )
    names = [name for name, _ in ranking(page)]
    table = {
        name: [int(part) for part in re.findall(r"\d+", colour)] for name, colour in zip(names, colours, strict=True)
    }
    for x, y in ((3, 3), (30, 20), (59, 39), (10, 30)):
        name = result.classes[result.labels[y, x]]
        assert colour_at(page, (x + 0.5) / 60, (y + 0.5) / 40) == table[name]
    areas = {name: f"{round(100 * share)} %" for name, share in result.areas.items()}
    assert dict(ranking(page)) == areas


def test_opacity_and_hidden_scores(open_page: Open) -> None:
    page = open_page(segmentation())
    set_range(page, "Opacity", 0)
    bare = colour_at(page, 0.2, 0.2)
    set_range(page, "Opacity", 1)
    assert colour_at(page, 0.2, 0.2) != bare
    set_range(page, "Hide scores below", 1)
    assert colour_at(page, 0.2, 0.2) == bare


def test_the_background_s_threshold_makes_the_labels_anew(open_page: Open) -> None:
    example = explanation()
    page = open_page(example)
    for threshold in (0.0, 0.25, 0.8):
        set_range(page, "Background threshold", threshold)
        with page.expect_download() as waiting:
            page.get_by_role("button", name="JSON").click()
        answer = json.loads(Path(waiting.value.path()).read_text())
        import torch

        maps = torch.from_numpy(example.result.maps)
        expected = assign_labels(
            ScoreMaps(("cat", "grass"), maps[:-1], maps[-1]), (30, 50), "offset", threshold
        ).numpy()
        assert answer["threshold"] == threshold
        for entry in answer["classes"]:
            code = coco_mask.frPyObjects(entry["rle"], 30, 50)
            found = coco_mask.decode(code).astype(bool)
            assert (found != (expected == entry["index"])).mean() < 0.01  # the page's maps have 8 bits
            assert entry["pixels"] == found.sum()


def test_downloads_are_exact_and_at_the_image_s_own_size(open_page: Open) -> None:
    result = segmentation(width=1500, height=1000)
    page = open_page(result)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="mask of grass").click()
    assert waiting.value.suggested_filename == "photo-jpg_mask_grass.png"
    mask = np.asarray(Image.open(waiting.value.path()).convert("L"))
    assert np.array_equal(mask, np.where(result.labels == 1, 255, 0))
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON").click()
    answer = json.loads(Path(waiting.value.path()).read_text())
    for entry in answer["classes"]:
        found = coco_mask.decode(coco_mask.frPyObjects(entry["rle"], 1000, 1500)).astype(bool)
        assert np.array_equal(found, result.labels == entry["index"])
    for name in ("Labels", "Overlay"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        assert waiting.value.suggested_filename == f"photo-jpg_{name.lower()}.png"
        assert Image.open(waiting.value.path()).size == ((1500, 1000) if name == "Labels" else (960, 640))


def test_a_class_is_shown_alone(open_page: Open) -> None:
    page = open_page(explanation())
    choose_stage(page, "refined")
    tile = page.locator(".tile").first
    before = colour_at(page, 0.5, 0.5)
    tile.click()
    settle(page)
    assert tile.get_attribute("aria-pressed") == "true"
    assert "one map, from 0.000 (dark) to 1.000" in page.locator(".says").inner_text()
    assert colour_at(page, 0.5, 0.5) != before
    tile.click()
    settle(page)
    assert colour_at(page, 0.5, 0.5) == before


def test_heads_and_layers_have_weights_and_pictures(open_page: Open) -> None:
    example = explanation()
    page = open_page(example)
    choose_stage(page, f"Layer {example.layers[1].name},")
    cards = page.locator(".card")
    assert cards.count() == example.layers[1].heads
    for head in range(cards.count()):
        mean = example.layers[1].head_weights[head].mean()
        assert float(cards.nth(head).locator(".share").inner_text()) == pytest.approx(mean, abs=6e-4)
        assert cards.nth(head).locator("canvas").count() == 2
    assert f"Weight {example.layers[1].weight:.3f} of 1" in page.locator(".says").inner_text()


def test_two_results_are_compared_by_a_slider(open_page: Open) -> None:
    first = segmentation(("cat", "dog"))
    labels = 1 - first.labels
    other = type(first)(first.image, first.classes, labels, first.maps)
    page = open_page({"paper": first, "sharp": other})
    set_range(page, "Opacity", 1)
    place = (0.3, 0.6)
    alone = colour_at(page, *place)
    page.get_by_label("Compare with").select_option("sharp")
    set_range(page, "paper | sharp", 0.9)
    assert colour_at(page, *place) == alone
    set_range(page, "paper | sharp", 0.1)
    assert colour_at(page, *place) != alone
    point(page, *place)
    assert page.locator(".where").inner_text().split(": ")[1] == other.classes[labels[int(0.6 * 40), int(0.3 * 60)]]


@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_no_width_overflows(open_page: Open, width: int) -> None:
    long = ("a word without end " * 4, "unbreakable" * 12, *(f"class {number}" for number in range(20)))
    page = open_page({"one": segmentation(long), "two": segmentation(("cat", "dog"))}, width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".view").bounding_box()["width"] <= width


def test_hostile_names_stay_text(open_page: Open) -> None:
    page = open_page(segmentation(HOSTILE))
    point(page, 0.5, 0.5)
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2
    names = {name for name, _ in ranking(page)}
    assert names == {HOSTILE[0], "a\\x1b[2Jb\\u202ec", HOSTILE[2], HOSTILE[3]}
    with page.expect_download() as waiting:
        page.get_by_role("button", name="mask of <img").click()
    assert waiting.value.suggested_filename == "photo-jpg_mask_img-src-x-onerror-alert-1.png"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Open, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = open_page({"one": explanation(), "two": segmentation(("cat", "dog"))}, color_scheme=scheme, bypass_csp=True)
    page.get_by_label("Compare with").select_option("two")
    page.locator("summary").click()
    point(page, 0.5, 0.5)
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []


def test_a_finger_explores(open_page: Open) -> None:
    page = open_page(segmentation(), width=390, height=844, has_touch=True, is_mobile=True)
    box = page.locator(".view").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25)
    settle(page)
    assert page.locator(".where").inner_text().startswith("Pixel 15, 10")


def test_in_a_notebook_s_frame(browser: Any) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.set_content(iframe(payload(segmentation())))
    frame = page.frame_locator("iframe")
    frame.locator(".tile").first.wait_for()
    with page.expect_download() as waiting:
        frame.get_by_role("button", name="mask of cat").click()
    assert waiting.value.suggested_filename == "Segmentation_mask_cat.png"
    page.close()
    assert not problems


def test_ignored_pixels_have_no_colour(open_page: Open) -> None:
    result = segmentation().ignore(1.0)
    page = open_page(result)
    assert dict(ranking(page)) == {"cat": "0 %", "grass": "0 %", "sky": "0 %"}
    set_range(page, "Opacity", 1)
    assert colour_at(page, 0.5, 0.5) == pytest.approx(result.image.getpixel((30, 20)), abs=12)  # JPEG
    point(page, 0.5, 0.5)
    assert page.locator(".where").inner_text() == "Pixel 30, 20: ignored"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Labels").click()
    assert not np.asarray(Image.open(waiting.value.path()))[..., 3].any()


def test_a_single_class_and_a_single_pixel(open_page: Open) -> None:
    tiny = type(segmentation())(grey(1, 1), ("cat",), np.zeros((1, 1), int), np.zeros((1, 1, 1), np.float32))
    page = open_page(tiny)
    point(page, 0.5, 0.5)
    assert ranking(page) == [("cat", "0.000")]
