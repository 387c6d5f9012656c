"""Screenshots of the page of ``goca serve`` for the documents.

    python benchmarks/serve_pictures.py --out docs/images

Needs playwright (extra ``test``) and Debian's chromium. Writes ``serve.png`` (an example, two methods) and
``serve-phone.png`` (a prompt and the regions of its steps, 390 pixels wide).
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
COMMAND = [sys.executable, "-m", "goca", "serve", "--port", "0"]


def segment(page: Any) -> None:
    """An example, segmented by two methods."""
    page.locator("#examples button").nth(1).click()
    page.wait_for_selector("#preview:not([hidden])")
    for name in ("sharp", "vanilla"):
        page.check(f"#presets input[value={name}]")
    page.click("#segment .primary")
    page.wait_for_selector("#result .tile canvas")
    page.locator("#result .divider").wait_for()


def draw(page: Any) -> None:
    """A prompt, and the regions at one of its first steps."""
    page.get_by_label("Draw and segment").check()
    page.fill("#prompt", "a horse, grass, sunset")
    page.click("#generate .primary")
    page.wait_for_selector("#result .tile canvas")
    page.focus("#scrubber")
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")


def main() -> None:
    """Start the service and look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, "the service did not start"
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
            for name, act, width, height in (("serve", segment, 1280, 1330), ("serve-phone", draw, 390, 1250)):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.set_default_timeout(300_000)
                page.goto(found[0])
                page.wait_for_selector("#examples img")
                act(page)
                page.wait_for_timeout(500)
                page.evaluate("window.scrollTo(0, 0)")
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                shot.quantize(256).save(out / f"{name}.png", optimize=True)
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
