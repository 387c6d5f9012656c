"""``goca guidance-table``: what guidance does to the images, over a range of scales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from goca.cli.common import clean_stdout, print_json, print_table, progress, say, split_list
from goca.cli.options import DeviceOptions, JsonOption, OverwriteOption, count_option, seed_option, steps_option
from goca.messages import shorten
from goca.ranges import LARGEST_SCALE, check_number
from goca.storage.outputs import check_folder


def guidance_table(
    model: DeviceOptions,
    scales: Annotated[str, typer.Option(help="Guidance scales, separated by commas.")] = "2,3,5,7.5,10",
    guidance: Annotated[str, typer.Option(help="cfg, s-cfg, goca, or some of them.")] = "cfg,s-cfg,goca",
    prompts: Annotated[int, count_option("How many prompts are drawn in each setting.", least=2)] = 48,
    steps: Annotated[int | None, steps_option()] = None,
    seed: Annotated[int, seed_option("Series of the scenes whose captions are the prompts.")] = 31,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder with images/ and captions.json, for models of photographs: FID and CLIP score."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for images, measurements and the table.")] = Path("goca-guidance"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare plain guidance, S-CFG and GoCA's regions over a range of scales.

    Embedded models draw captions of held-out scenes. A network that was trained on masks judges the images: distance
    to real scenes (lower is better), share of the named things that it finds, and mIoU of the masks that came with the
    images. Intervals are 95%, over prompts; the columns "- cfg" are differences to plain guidance at the same scale,
    on the same prompts and seeds.

    The same command goes on where it was stopped. Writes images/, records.jsonl, results.json and table.md.

    Example: goca guidance-table --scales 3,5 --prompts 12 --steps 15
    """
    with clean_stdout():
        numbers, kinds = read_scales(scales), tuple(dict.fromkeys(split_list([guidance])))
        if not kinds:
            raise ValueError("name at least one guidance, for example --guidance cfg,goca")
        check_folder(out)
        from goca.evaluation.generation.experiment import Plan, compare_guidance
        from goca.evaluation.generation.table import heading, rows

        segmenter = model.load()
        with progress("drawing") as report:
            answer = compare_guidance(
                segmenter,
                Plan(kinds, numbers, steps),
                out,
                prompts=prompts,
                seed=seed,
                photos=photos,
                overwrite=overwrite,
                progress=report,
            )
    if as_json:
        print_json(answer)
    else:
        say(f"{answer['model']}, {prompts} prompts")
        for key in answer["columns"]:
            head, *lines = rows(answer, key)
            table = Table(*head, title=heading(answer, key), title_justify="left", box=SIMPLE)
            for line in lines:
                table.add_row(*(Text(cell.replace(" [", "\n[")) for cell in line))
            print_table(table)


def read_scales(text: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        ValueError: none, something else, or a number out of range.
    """
    try:
        numbers = tuple(dict.fromkeys(float(each) for each in split_list([text])))
    except ValueError:
        numbers = ()
    for number in numbers:
        check_number("a scale", number, 0.0, LARGEST_SCALE)
    if not numbers:
        raise ValueError(f"the scales {shorten(text)!r} are no numbers separated by commas, like 2,3,5,7.5,10")
    return numbers
