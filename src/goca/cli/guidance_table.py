"""``goca guidance-table``: what guidance does to the images, over a range of scales."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from goca.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    OffloadOption,
    clean_stdout,
    load_segmenter,
    print_json,
    progress,
    split_list,
)
from goca.cli.segment import check_folder

if TYPE_CHECKING:
    from goca.evaluation.generation.experiment import Measures
    from goca.models.specs import ModelSpec


def guidance_table(
    model: ModelOption = None,
    scales: Annotated[str, typer.Option(help="Guidance scales, separated by commas.")] = "2,3,5,7.5,10",
    guidance: Annotated[str, typer.Option(help="cfg, s-cfg, goca, or some of them.")] = "cfg,s-cfg,goca",
    prompts: Annotated[int, typer.Option(min=2, help="How many prompts are drawn in each setting.")] = 48,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps. Default: the pipeline's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Series of the scenes whose captions are the prompts.")] = 31,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder with images/ and captions.json, for models of photographs: FID and CLIP score."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: OffloadOption = None,
    out: Annotated[Path, typer.Option(help="Folder for images, records and the table.")] = Path("goca-guidance"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
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
        from goca.evaluation.generation.experiment import Plan, heading, markdown, rows, run
        from goca.storage.atomic import write_atomically

        segmenter = load_segmenter(model, device=device, dtype=dtype, offload=offload)
        measures = choose_measures(segmenter.model.spec, photos, out, prompts, seed)
        with progress("drawing") as report:
            answer = run(segmenter, measures, Plan(kinds, numbers, steps), out, report)
        write_atomically(out / "results.json", json.dumps(answer, indent=2) + "\n")
        write_atomically(out / "table.md", markdown(answer))
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"{answer['model']}, {prompts} prompts")
        for key in answer["columns"]:
            head, *lines = rows(answer, key)
            table = Table(*head, title=heading(answer, key), title_justify="left", box=SIMPLE)
            for line in lines:
                table.add_row(*(cell.replace(" [", "\n[") for cell in line))
            Console().print(table, markup=False)


def read_scales(text: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        ValueError: none, or something else.
    """
    try:
        numbers = tuple(dict.fromkeys(float(each) for each in split_list([text])))
    except ValueError:
        numbers = ()
    if not numbers:
        raise ValueError(f"the scales {text!r} are no numbers separated by commas, like 2,3,5,7.5,10")
    return numbers


def choose_measures(spec: ModelSpec, photos: Path | None, out: Path, prompts: int, seed: int) -> Measures:
    """Those of scenes for embedded models, those of photographs for the others.

    Raises:
        ValueError: photographs for an embedded model, none for another.
    """
    from goca.evaluation.generation.experiment import SceneMeasures
    from goca.evaluation.generation.photographs import PhotoMeasures

    if (spec.vocabulary is None) != (photos is not None):
        raise ValueError(
            f"{spec.name} draws scenes, which are judged without --photos; leave it out"
            if photos
            else f"{spec.name} draws photographs, which the judge of scenes does not know; "
            "give a folder with images/ and captions.json with --photos"
        )
    return SceneMeasures(out, prompts, seed) if photos is None else PhotoMeasures(photos, prompts)
