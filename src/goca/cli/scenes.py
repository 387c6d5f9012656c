"""``goca scenes``: write generated scenes with their masks and captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goca.cli.common import print_json, progress, say
from goca.cli.options import JsonOption, OverwriteOption, count_option, seed_option
from goca.ranges import LARGEST_SIDE


def scenes(
    count: Annotated[int, count_option("How many scenes to write.")] = 10,
    seed: Annotated[int, seed_option("Series of scenes; the same seed always gives the same scenes.")] = 0,
    size: Annotated[int, typer.Option(min=16, max=LARGEST_SIDE, help="Side of the pictures in pixels.")] = 128,
    out: Annotated[Path, typer.Option(help="Folder for the scenes.")] = Path("scenes"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write pictures of the embedded models' world, with exact masks and captions.

    Writes images/NAME.png, labels/NAME.png (indexed by the lines of classes.txt, counted from 0), captions.json and
    classes.txt.
    """
    from goca.datasets.scenes import CLASS_NAMES
    from goca.datasets.write_scenes import write_scenes

    with progress("drawing") as report:
        write_scenes(out, count, seed=seed, size=size, overwrite=overwrite, progress=report)
    if as_json:
        print_json({"folder": str(out), "count": count, "seed": seed, "classes": list(CLASS_NAMES)})
    else:
        say(f"{count} scene{'' if count == 1 else 's'} in {out}: images, labels, captions.json, classes.txt")
