"""``goca generate``: images from prompts, and what is where in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import clean_stdout, print_json, print_settings, progress, say, split_classes
from goca.cli.options import (
    DeviceOptions,
    JsonOption,
    MethodOptions,
    OutOption,
    OverwriteOption,
    count_option,
    seed_option,
    steps_option,
)
from goca.messages import shorten
from goca.ranges import LARGEST_SCALE
from goca.storage.outputs import check_folder

if TYPE_CHECKING:
    from goca.guidance.drawing import DrawnPrompt, DrawnTable
    from goca.guidance.generate import Generator


def generate(
    model: DeviceOptions,
    method: MethodOptions,
    prompt: Annotated[str | None, typer.Argument(help='What to draw: "a cat, grass, sky".')] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="Draw every line of this CSV file: columns prompt (or text), if wanted seed, name (or image_id).",
        ),
    ] = None,
    guidance: Annotated[
        str,
        typer.Option(
            help="{guidance}: without regions, with regions by the original rule, with regions by GoCA's maps."
        ),
    ] = "goca",
    scale: Annotated[float, typer.Option(min=0, max=LARGEST_SCALE, help="Guidance scale, above 1.")] = 5.0,
    steps: Annotated[int | None, steps_option()] = None,
    every: Annotated[int, count_option("Make the masks of the regions every so many steps.")] = 1,
    seed: Annotated[int, seed_option("Seed of the noise.")] = 0,
    size: Annotated[
        str | None, typer.Option(help="Pixels: 512 or 768x512 (width x height). Default: the model's.")
    ] = None,
    segment: Annotated[bool, typer.Option("--segment", help="Write also what is where in the image.")] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="What to segment, separated by commas, synonyms by |; those that the prompt has count. Default: what "
            "the prompt names between its commas."
        ),
    ] = None,
    show_masks: Annotated[bool, typer.Option("--show-masks", help="Draw regions and rates of the steps.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Draw cfg, s-cfg and goca under each other.")] = False,
    out: OutOption = Path("goca-out"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw images, each region with its own guidance strength, and segment them on the way.

    One prompt: writes NAME.png; with --segment also NAME_labels.png, NAME_overlay.png, heat maps, NAME.json and
    NAME.txt (the caption); with --show-masks NAME_masks.png, with --compare NAME_compare.png, with --segment
    and --compare NAME_compare.html, a page that compares the images by a slider.

    A table: writes images/, with --segment also labels/, classes.txt and annotations.json (COCO), and captions.json.
    The same command goes on where it was stopped. Bad lines are listed, and the exit code is then 1.

    Example: goca generate "boat, water, sunset" --segment --compare
    """
    with clean_stdout():
        if (prompt is None) == (table is None):
            raise ValueError("give one prompt, or a table of prompts with --csv")
        if table is not None and (show_masks or compare):
            raise ValueError("--show-masks and --compare draw one prompt; leave out --csv")
        if classes and not segment:
            raise ValueError("--classes says what to segment; add --segment")
        settings = method.settings
        check_settings(settings, segment)
        named = split_classes(classes) if classes else None
        sides = read_size(size)
        check_folder(out)
        from goca.guidance.drawing import draw_prompt, draw_table
        from goca.guidance.generate import Generator
        from goca.guidance.table import read_rows

        rows, bad = ([], []) if table is None else read_rows(table, seed)
        make = Generator(model.load(settings=settings), guidance, scale=scale, steps=steps, size=sides, every=every)
        with progress("drawing") as report:
            if prompt is None:
                drawn = draw_table(
                    make, rows, out, segment=segment, classes=named, overwrite=overwrite, progress=report
                )
            else:
                chosen = {"show_masks": show_masks, "compare": compare, "overwrite": overwrite}
                one = draw_prompt(make, prompt, seed, out, segment=segment, classes=named, **chosen, progress=report)
    if not as_json:
        print_settings(settings)
    if prompt is None:
        print_table(drawn, bad, out, as_json)
    else:
        print_prompt(one, make, as_json)


def check_settings(settings: Mapping[str, Any], segment: bool) -> None:
    """Refuse settings of the method that do nothing here.

    Raises:
        ValueError: nothing is segmented, or a setting of forwards that are not made.
    """
    if settings and not segment:
        raise ValueError(f"the method's {next(iter(settings))} says how to segment; add --segment")
    useless = [name for name in ("timesteps", "flip") if name in settings]
    if useless:
        raise ValueError(
            f"the method's {useless[0]} has no effect on images that are drawn, whose maps are recorded on the way; "
            "leave it out"
        )


def print_prompt(drawn: DrawnPrompt, make: Generator, as_json: bool) -> None:
    """Say where the files are."""
    result, files = drawn.result, {key: str(path) for key, path in drawn.files.items()}
    for note in result.notes:
        say(f"note: {note}", error=True)
    if not as_json:
        say(files.get("page") or files.get("compare") or files.get("masks") or files["image"])
        return
    print_json(
        {
            "prompt": result.prompt,
            "seed": result.seed,
            "guidance": result.guidance,
            "scale": make.scale,
            "method": None if drawn.classes is None else make.segmenter.resolve().settings,
            "classes": None if drawn.classes is None else list(drawn.classes),
            "files": files,
            "notes": list(result.notes),
        }
    )


def print_table(drawn: DrawnTable, unread: list[str], out: Path, as_json: bool) -> None:
    """Say how many images there are and which lines are bad; exit code 1 where one is."""
    bad = sorted([*unread, *drawn.bad], key=lambda line: int(line.split()[1].rstrip(":")))
    for note in drawn.notes:
        say(f"note: {note}", error=True)
    if as_json:
        counts = {"folder": str(out), "drawn": drawn.drawn, "skipped": drawn.skipped}
        print_json({**counts, "bad": bad, "notes": list(drawn.notes)})
    else:
        say(f"{drawn.drawn} images drawn, {drawn.skipped} were there already, in {out}")
        for line in bad:
            say(f"goca: {line}", error=True)
    if bad:
        raise typer.Exit(1)


def read_size(size: str | None) -> tuple[int, int] | None:
    """Height and width of ``512`` or ``WIDTHxHEIGHT``.

    Raises:
        ValueError: something else.
    """
    if size is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", size.strip().lower())
    if match is None:
        raise ValueError(f"the size {shorten(size)!r} is neither one side like 512 nor width x height like 768x512")
    return int(match[2] or match[1]), int(match[1])
