"""``goca generate``: images from prompts, and what is where in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    OffloadOption,
    clean_stdout,
    load_segmenter,
    print_json,
    progress,
    sentence,
    split_classes,
)
from goca.cli.segment import check_folder

if TYPE_CHECKING:
    from goca.guidance.generate import Generation, Generator
    from goca.guidance.table import Row


def generate(
    prompt: Annotated[str | None, typer.Argument(help='What to draw: "a cat, grass, sky".')] = None,
    table: Annotated[
        Path | None,
        typer.Option("--csv", help="Draw every line of this CSV file: columns prompt, and if wanted seed and name."),
    ] = None,
    model: ModelOption = None,
    guidance: Annotated[
        str, typer.Option(help="cfg (plain), s-cfg (regions by the original rule) or goca (regions by GoCA's maps).")
    ] = "goca",
    scale: Annotated[float, typer.Option(help="Guidance scale, above 1.")] = 5.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps. Default: the pipeline's own.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Make the masks of the regions every so many steps.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    size: Annotated[
        str | None, typer.Option(help="Pixels: 512 or 768x512 (width x height). Default: the model's.")
    ] = None,
    segment: Annotated[bool, typer.Option("--segment", help="Write also what is where in the image.")] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="What to segment, separated by commas. Default: what the prompt names between its commas."),
    ] = None,
    show_masks: Annotated[bool, typer.Option("--show-masks", help="Draw regions and rates of the steps.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Draw cfg, s-cfg and goca under each other.")] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: OffloadOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("goca-out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Draw images, each region with its own guidance strength, and segment them on the way.

    One prompt: writes NAME.png; with --segment also NAME_labels.png, NAME_overlay.png, heat maps, NAME.json and
    NAME.txt (the caption); with --show-masks NAME_masks.png, with --compare NAME_compare.png.

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
        named = split_classes(classes) if classes else None
        sides = read_size(size)
        check_folder(out)
        from goca.guidance.generate import Generator
        from goca.guidance.table import read_rows

        rows = None if table is None else read_rows(table, seed)
        segmenter = load_segmenter(model, device=device, dtype=dtype, offload=offload)
        make = Generator(segmenter, guidance, scale=scale, steps=steps, size=sides, every=every)
        if prompt is not None:
            answer = draw_one(make, prompt, seed, out, segment, named, show_masks, compare)
        else:
            assert rows is not None
            answer = draw_table(make, *rows, out, segment, named)
    for note in answer["notes"]:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(answer)
    elif prompt is not None:
        typer.echo(answer["files"].get("compare") or answer["files"].get("masks") or answer["files"]["image"])
    else:
        typer.echo(f"{answer['drawn']} images drawn, {answer['skipped']} were there already, in {out}")
        for line in answer["bad"]:
            typer.echo(f"goca: {line}", err=True)
    if answer.get("bad"):
        raise typer.Exit(1)


def read_size(size: str | None) -> tuple[int, int] | None:
    """Height and width of ``512`` or ``WIDTHxHEIGHT``.

    Raises:
        ValueError: something else.
    """
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", size.strip().lower())
    if match is None:
        raise ValueError(f"the size {size!r} is neither one side like 512 nor width x height like 768x512")
    return int(match[2] or match[1]), int(match[1])


def draw_one(
    make: Generator,
    prompt: str,
    seed: int,
    out: Path,
    segment: bool,
    classes: list[str] | None,
    show_masks: bool,
    compare: bool,
) -> dict[str, Any]:
    """Draw one prompt and write what was asked for."""
    from goca.guidance.generate import GUIDANCE, name_things
    from goca.guidance.sheet import sheet
    from goca.guidance.table import write_png
    from goca.result import file_names
    from goca.storage.atomic import write_atomically

    things = (classes or name_things(prompt, make.segmenter.model.spec.vocabulary)) if segment else None
    kinds = list(GUIDANCE) if compare else [make.guidance]
    results: dict[str, Generation] = {}
    with progress("drawing") as report:
        for done, kind in enumerate(kinds):
            report(done, len(kinds))
            maker = make if kind == make.guidance else make.like(kind)
            wanted = things if kind == make.guidance else None
            results[kind] = maker(prompt, seed, classes=wanted, trace=show_masks or compare)
    result = results[make.guidance]
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{file_names([prompt])[0]}-{seed}"
    files = {"image": out / f"{stem}.png"}
    write_png(result.image, files["image"], prompt=prompt, seed=str(seed))
    if result.segmentation is not None:
        files |= result.segmentation.save(out, stem)
        files["caption"] = out / f"{stem}.txt"
        write_atomically(files["caption"], prompt + "\n")
    for wanted_sheet, name, shown in ((show_masks, "masks", [result]), (compare, "compare", list(results.values()))):
        if wanted_sheet:
            files[name] = out / f"{stem}_{name}.png"
            write_png(sheet(shown), files[name])
    return {
        "prompt": prompt,
        "seed": seed,
        "guidance": make.guidance,
        "scale": make.scale,
        "classes": None if things is None else list(things),
        "files": {key: str(path) for key, path in files.items()},
        "notes": list(result.notes),
    }


def draw_table(
    make: Generator, rows: list[Row], bad: list[str], out: Path, segment: bool, classes: list[str] | None
) -> dict[str, Any]:
    """Draw the rows that are not there yet; bad ones are listed and left out."""
    from goca.guidance.generate import mentioned, name_things
    from goca.guidance.table import DatasetFolder

    spec = make.segmenter.model.spec
    things: dict[str, list[str] | None] = dict.fromkeys(row.name for row in rows)
    good = []
    for row in rows:
        try:
            if segment:
                things[row.name] = (
                    mentioned(classes, row.prompt) if classes else name_things(row.prompt, spec.vocabulary)
                )
            make.check(row.prompt, things[row.name])
        except ValueError as error:
            bad.append(f"line {row.line}: {sentence(error)}")
        else:
            good.append(row)
    settings = {
        "model": spec.name,
        "guidance": make.guidance,
        "scale": make.scale,
        "steps": make.steps,
        "size": list(make.size),
        "every": make.every,
        "segment": segment,
        "classes": classes,
    }
    named = {name: class_names(entries or ()) for name, entries in things.items()}
    names = class_names(classes) if classes else [name for row in good for name in named[row.name]]
    folder = DatasetFolder(out, settings, names if segment else None)
    finished: list[Row] = []
    missing: list[Row] = []
    for row in good:
        try:
            (finished if folder.has(row) else missing).append(row)
        except ValueError as error:
            bad.append(f"line {row.line}: {sentence(error)}")
    skipped = len(finished)
    notes: list[str] = []
    try:
        with progress("drawing") as report:
            for row in missing:
                report(len(finished), skipped + len(missing))
                result = make(row.prompt, row.seed, classes=things[row.name])
                folder.add(row, result)
                notes += result.notes
                finished.append(row)
    finally:
        folder.finish(sorted(finished, key=lambda row: row.line), named)
    bad.sort(key=lambda line: int(line.split()[1].rstrip(":")))
    unique = list(dict.fromkeys(notes))
    return {"folder": str(out), "drawn": len(missing), "skipped": skipped, "bad": bad, "notes": unique}


def class_names(entries: Iterable[str]) -> list[str]:
    """The names of classes, of which each may have synonyms."""
    from goca.text.prompt import split_synonyms

    return [split_synonyms(entry)[0] for entry in entries]
