"""What ``goca`` says of itself: alone, and with ``--help``."""

from __future__ import annotations

import re
from typing import Any

from goca.cli.common import OneSentenceErrors, say

START = """Name the things in an image, get a mask for each. To start with:

  goca segment photo.jpg --classes "cat,grass,sky" --model sd15   masks in goca-out (downloads the model once)
  goca serve                                                      a page to try it on, with drawn scenes; no download
  goca doctor                                                     what this machine can run, and what is missing

goca --help lists all commands, goca COMMAND --help explains one."""


class Program(OneSentenceErrors):
    """The group of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Alone, it says what to start with."""
        if not args and not ctx.resilient_parsing:
            for line in START.splitlines():
                say(line)
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The commands by task, and below an example of each task."""
        super().format_help(ctx, formatter)
        tasks: dict[Any, str] = {}
        for command in self.commands.values():
            if (example := example_of(command.help)) is not None:
                tasks.setdefault(command.rich_help_panel, example)  # type: ignore[attr-defined]
        say("Examples:")
        for example in tasks.values():
            say(f"  {example}")


def example_of(help_text: str | None) -> str | None:
    """The command line that a command's help gives as an example."""
    match = re.search(r"^\s*Example: (goca .+)$", help_text or "", re.MULTILINE)
    return None if match is None else match[1].strip()
