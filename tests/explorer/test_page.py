"""The page as text: nothing can be loaded, nothing that users name can become code."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from explorer.examples import HOSTILE, explanation, segmentation
from goca.explorer import asset, iframe, page, payload
from goca.explorer.page import script_json


class Tags(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open = ""
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in self.texts:
            self.texts[self.open].append(data)


def test_hostile_names_open_no_tag() -> None:
    plain, hostile = (
        Tags(page(payload(segmentation(names), title=names[0]))) for names in (("a", "b", "c", "d"), HOSTILE)
    )
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert hostile.texts["title"][0] == HOSTILE[0]


def test_the_policy_lets_only_the_page_itself_run() -> None:
    found = Tags(page(payload(segmentation())))
    (policy,) = [each["content"] for tag, each in found.tags if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'") and "unsafe" not in policy
    data, script = found.texts["script"]
    for text in (script, *found.texts["style"]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert json.loads(data)["format"] == 1


def test_no_address_but_data() -> None:
    text = page(payload(explanation()))
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text.split("<script")[0])
    assert addresses == ["data:,"]
    assert not re.search(r"https?://", asset("explorer.js") + asset("explorer.css"))


def test_json_in_html_is_json_without_tags() -> None:
    value = {"a": "</script><!-- & \u2028 \U0001f600"}
    text = script_json(value)
    assert json.loads(text) == value and text.isascii() and not set("<>&") & set(text)


def test_a_frame_holds_the_whole_page() -> None:
    data = payload(segmentation())
    found = Tags(iframe(data))
    ((tag, attributes),) = found.tags
    assert tag == "iframe" and attributes["sandbox"] == "allow-scripts allow-downloads"
    assert unescape(attributes["srcdoc"] or "") == page(data)


def test_saving(tmp_path: Path) -> None:
    result = segmentation()
    path = result.save_html(tmp_path / "new" / "photo.html")
    assert "<title>photo</title>" in path.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError, match="exists already"):
        result.save_html(path)
    written = explanation().save_html(path, overwrite=True).read_text(encoding="utf-8")
    assert "refined" in written and sorted(each.name for each in path.parent.iterdir()) == ["photo.html"]


def test_the_format_html(tmp_path: Path) -> None:
    files = segmentation().save(tmp_path, "photo", ["html"])
    assert files == {"html": tmp_path / "photo.html"} and files["html"].read_text(encoding="utf-8").endswith(
        "</html>\n"
    )
