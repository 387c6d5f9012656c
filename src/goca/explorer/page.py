"""The explorer's data as one HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from goca.storage.atomic import write_atomically
from goca.storage.outputs import refuse_existing

BOOT = """
GocaExplorer.mount(
  document.getElementById("goca-explorer"),
  JSON.parse(document.getElementById("goca-payload").textContent),
);
"""
SANDBOX = "allow-scripts allow-downloads"


@lru_cache
def asset(name: str, package: str = "goca.explorer") -> str:
    """The text of ``explorer.js``, ``explorer.css`` or ``explorer.html``, or of a file beside another package's
    modules."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def page(payload: Mapping[str, Any]) -> str:
    """A whole page, whose policy (CSP) lets its own script and style run and nothing be loaded.

    Args:
        payload: of :func:`goca.explorer.payload`.
    """
    script, style = asset("explorer.js") + BOOT, asset("explorer.css")
    return Template(asset("explorer.html")).substitute(
        title=escape(str(payload["title"])),
        policy=policy(script, style),
        style=style,
        script=script,
        payload=script_json(payload),
    )


def save_page(path: str | Path, payload: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write the page, whole or not at all.

    Raises:
        FileExistsError: the file is there already, and ``overwrite`` is not set. OSError: it cannot be written.
    """
    path = Path(path)
    refuse_existing([path], overwrite)
    content = page(payload)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def iframe(payload: Mapping[str, Any], height: int = 760) -> str:
    """The page inside a frame that has neither an origin nor a way out, for notebooks.

    Args:
        height: of the frame, in CSS pixels.
    """
    style = f"width: 100%; height: {height}px; border: 0"
    attributes = {"sandbox": SANDBOX, "title": str(payload["title"]), "style": style, "srcdoc": page(payload)}
    written = " ".join(f'{name}="{escape(text)}"' for name, text in attributes.items())
    return f"<iframe {written}></iframe>"


def script_json(value: Any) -> str:
    """JSON that cannot end or open anything in HTML: ``<``, ``>`` and ``&`` are escapes, and all of it is ASCII."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy(script: str, style: str | None = None) -> str:
    """A policy (CSP) for a page that loads nothing and has this one script, and this one style or any of its own."""
    styles = "unsafe-inline" if style is None else _hash(style)
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{styles}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
