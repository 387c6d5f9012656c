"""What is measured of generated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from goca.guidance.generate import Generation
from goca.storage.journal import Entry

Counts = Int64[np.ndarray, "sets prompts"]
Values = dict[str, np.ndarray]


@runtime_checkable
class Measures(Protocol):
    """What is measured.

    Attributes:
        columns: title of each measure by its key.
        prompts: what is drawn; prompt i with seed i.
        settings: what the measurements depend on.
    """

    columns: dict[str, str]
    prompts: list[str]
    settings: dict[str, Any]

    def things(self, index: int) -> Sequence[str] | None:
        """What to segment in the image of prompt ``index``; ``None`` for nothing."""

    def measure(self, index: int, result: Generation) -> Entry:
        """What is kept of one image."""

    def check(self, index: int, entry: Entry) -> None:
        """Raise ``ValueError`` where something is not as :meth:`measure` gives it."""

    def values(self, entries: Sequence[Entry], paths: Sequence[Path], counts: Counts) -> Values:
        """Each measure of several sets of images, in which image i occurs ``counts[:, i]`` times."""

    def real(self, counts: Counts) -> Values | None:
        """The same of real images of these prompts, where there are any."""
