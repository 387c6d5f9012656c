"""Digests by which a run that is continued notices changed inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

PREFIX = "sha256:"


def digest(*parts: bytes) -> str:
    """Of some bytes, each with its length: ``sha256:`` and 32 hexadecimal digits."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return PREFIX + hashed.hexdigest()[:32]


def json_digest(value: Any) -> str:
    """Of a JSON value, whatever the order of its keys."""
    return digest(json.dumps(value, sort_keys=True).encode())


def file_digest(path: Path) -> str:
    """Of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    return digest(path.read_bytes())


def is_digest(value: Any) -> bool:
    """Whether a setting is a digest, which tells people nothing."""
    return isinstance(value, str) and value.startswith(PREFIX)
