"""The page in a browser: an image and words to masks, a prompt to its regions, phones, keys, silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import png, served

from goca import Segmenter
from goca.server import Service, Settings

TOKEN = "token-of-the-test"
HOSTILE = '<img src=x onerror="alert(1)">'
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service of an embedded model."""
    with served(Service(lambda: {"scenes-dit": Segmenter.from_pretrained("scenes-dit")})) as address:
        yield address


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens pages; afterwards the console must be silent, and nothing may have been asked of another address."""
    problems: list[str] = []
    contexts = []

    def show(address: str, width: int = 1280, ready: str = "#examples img") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked(request.url, address))
        page.goto(address)
        page.wait_for_selector(ready)
        return page

    def asked(wanted: str, address: str) -> None:
        home = "/".join(address.split("/")[:3])
        if not wanted.startswith((f"{home}/", "data:", f"blob:{home}/")):
            problems.append(f"request {wanted}")

    yield show
    for each in contexts:
        each.close()
    assert [each for each in problems if "status of 4" not in each] == []


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def axe(page: Any) -> list[str]:
    """Rules with serious or critical findings."""
    library = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = library.Axe().run(page).response["violations"]
    return [each["id"] for each in found if each["impact"] in ("serious", "critical")]


def drop(page: Any, content: bytes, name: str) -> None:
    """Drop a file on the page."""
    page.evaluate(
        """([bytes, name]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }""",
        [list(content), name],
    )


@pytest.mark.slow
def test_an_example_goes_to_masks_by_keys_alone(url: str, open_page: Open) -> None:
    page = open_page(url)
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#preview:not([hidden])")
    assert page.input_value("#classes")
    page.locator("#segment .primary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#result .tile canvas")
    assert page.text_content("#status").startswith("Done in")
    assert page.locator("#result .ranking li").count() >= len(page.input_value("#classes").split(","))
    assert axe(page) == []


@pytest.mark.slow
def test_a_dropped_image_is_segmented_by_two_methods_on_a_phone(url: str, open_page: Open) -> None:
    page = open_page(url, 390)
    drop(page, png(), "photo.png")
    page.fill("#classes", "grass, sky")
    for name in ("paper", "vanilla"):
        page.check(f"#presets input[value={name}]")
    page.click("#segment .primary")
    page.wait_for_selector("#result .tile canvas")
    names = page.locator("#result select").first.locator("option").all_inner_texts()
    assert names == ["paper", "vanilla"]
    page.locator("#result .divider").wait_for()
    assert overflow(page) <= 0
    assert axe(page) == []


@pytest.mark.slow
def test_what_is_wrong_is_said_and_hostile_names_stay_text(url: str, open_page: Open) -> None:
    page = open_page(url)
    page.click("#segment .primary")
    assert page.text_content("#status") == "Choose an image first."
    drop(page, b"no image", f"{HOSTILE}.png")
    page.fill("#classes", HOSTILE)
    page.click("#segment .primary")
    page.wait_for_selector("#status.wrong")
    assert "is not an image" in page.text_content("#status")
    drop(page, png(), "photo.png")
    page.click("#segment .primary")
    page.locator("#status", has_text="onerror").wait_for()
    assert page.locator("#status img").count() == 0


@pytest.mark.slow
def test_a_prompt_goes_to_an_image_whose_steps_can_be_looked_through(url: str, open_page: Open) -> None:
    page = open_page(url, 390)
    page.get_by_label("Draw and segment").check()
    page.fill("#prompt", "cat, grass, sky")
    page.fill("#steps", "4")
    page.click("#generate .primary")
    page.wait_for_selector("#result .tile canvas")
    assert page.text_content("#moment").startswith("Step 4 of 4")
    assert page.locator("#legend li").all_inner_texts() == ["cat", "grass", "sky", "other words"]
    last = page.evaluate("document.getElementById('regions').toDataURL()")
    page.focus("#scrubber")
    page.keyboard.press("Home")
    assert page.text_content("#moment").startswith("Step 1 of 4")
    assert page.evaluate("document.getElementById('regions').toDataURL()") != last
    assert overflow(page) <= 0
    assert axe(page) == []


@pytest.mark.slow
def test_masks_can_be_downloaded(url: str, open_page: Open, tmp_path: Path) -> None:
    page = open_page(url)
    page.locator("#examples button").nth(1).click()
    page.wait_for_selector("#preview:not([hidden])")
    page.click("#segment .primary")
    page.wait_for_selector("#result .tile canvas")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON", exact=True).click()
    download.value.save_as(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())


@pytest.mark.slow
def test_the_operations_are_listed(url: str, open_page: Open) -> None:
    page = open_page(f"{url}/docs", 390, ready="#operations section")
    assert page.get_by_text("POST /v1/segment").is_visible()
    assert overflow(page) <= 0
    assert axe(page) == []


@pytest.mark.slow
def test_a_token_is_asked_for_once(open_page: Open) -> None:
    service = Service(lambda: {"scenes-dit": Segmenter.from_pretrained("scenes-dit")}, Settings(token=TOKEN))
    with served(service) as address:
        page = open_page(address, ready="#login:not([hidden])")
        page.fill("#token", TOKEN)
        page.click("#login .primary")
        page.wait_for_selector("#examples img")
        assert page.locator("#login").is_hidden()
