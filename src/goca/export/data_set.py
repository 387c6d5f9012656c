"""What the formats share that write a data set into a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from goca.export.registry import Format


class DataSetFormat(Format):
    """A format whose files lie in :attr:`home`, beside a file that describes all of them.

    Attributes:
        home: name of the folder.
        description: path in it; where it is missing, the folder is not an earlier run's.
        patterns: what else a run writes there.
    """

    home: ClassVar[str]
    description: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]]

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        home = folder / self.home
        description = home / self.description
        if not description.exists():
            return []
        return [description, *(path for pattern in self.patterns for path in sorted(home.glob(pattern)))]
