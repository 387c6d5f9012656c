"""The explorer's pictures in the documentation: ``python benchmarks/screenshots.py --out docs/images``.

Needs chromium, and Playwright of the extra ``test``.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from goca import Segmenter
from goca.datasets.scenes import make_scene
from goca.explorer import payload, save_page

MODEL, METHODS, SEED, INDEX = "scenes-dit", ("sharp", "paper", "vanilla"), 2026, 3
QUALITY = 90
STAGE = "(number) => document.querySelectorAll('.step input')[number].click()"
TILE = "(number) => document.querySelectorAll('.tile')[number].click()"


def write_page(path: Path) -> Path:
    """A held-out scene, explained by three methods."""
    scene = make_scene(SEED, INDEX)
    segmenter = Segmenter.from_pretrained(MODEL)
    results = {name: segmenter.explain(scene.image, scene.classes, method=name) for name in METHODS}
    return save_page(path, payload(results, title="A scene that no training saw"), overwrite=True)


def shoot(browser: Any, page: Path, path: Path, size: tuple[int, int], steps: dict[str, int], **options: Any) -> None:
    """One picture of the page's upper part, the pointer on its picture."""
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
    tab.goto(page.as_uri())
    tab.wait_for_selector(".tile")
    for script, argument in steps.items():
        tab.evaluate(script, argument)
    box = tab.locator(".view").bounding_box()
    tab.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.62 * box["height"])
    tab.wait_for_timeout(500)
    Image.open(io.BytesIO(tab.screenshot())).save(path, "WEBP", quality=QUALITY)
    tab.close()


def main(out: Annotated[Path, typer.Option(help="Folder for the pictures.")]) -> None:
    """Write explorer.webp, explorer-stage.webp and explorer-phone.webp."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        page = write_page(Path(scratch) / "page.html")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        wide, tall = (1280, 960), (390, 844)
        shoot(browser, page, out / "explorer.webp", wide, {})
        shoot(browser, page, out / "explorer-stage.webp", wide, {STAGE: 1, TILE: 2}, color_scheme="dark")
        shoot(browser, page, out / "explorer-phone.webp", tall, {}, device_scale_factor=2)
        browser.close()


if __name__ == "__main__":
    typer.run(main)
