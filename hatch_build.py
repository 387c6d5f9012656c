"""The description for package indexes: the README without pictures and links that only the repository has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ELSEWHERE = "\nFiles that are named here lie in the repository and in the source distribution.\n"


class IndexDescription(MetadataHookInterface):
    """Sets ``readme`` of the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(text) + ELSEWHERE}


def without_relative_links(text: str) -> str:
    """Markdown in which relative pictures are left out and relative links are texts that name the file."""
    relative = r"(?![a-z][a-z+.-]*:|#)"
    text = re.sub(rf"!\[[^\]]*\]\({relative}[^)]*\)\n*", "", text)
    text = re.sub(rf'<img\b[^>]*\bsrc="{relative}[^>]*>\n*', "", text)
    text = re.sub(rf'<a\b[^>]*\bhref="{relative}[^>]*>(.*?)</a>', r"\1", text, flags=re.DOTALL)
    text = re.sub(rf"\[`?([^\]`]+)`?\]\({relative}\1\)", r"`\1`", text)
    return re.sub(rf"\[([^\]]+)\]\({relative}([^)]+)\)", r"\1 (`\2`)", text)
