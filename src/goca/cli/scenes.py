"""``goca scenes``: write generated scenes with their masks and captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from goca.cli.common import print_json, progress


def scenes(
    count: Annotated[int, typer.Option(min=1, help="How many scenes to write.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Series of scenes; the same seed always gives the same scenes.")] = 0,
    size: Annotated[int, typer.Option(min=16, help="Side of the pictures in pixels.")] = 128,
    out: Annotated[Path, typer.Option(help="Folder for the scenes; it must not hold any yet.")] = Path("scenes"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Write pictures of the embedded models' world, with exact masks and captions.

    Writes images/NAME.png, labels/NAME.png (indexed by the lines of classes.txt, counted from 0), captions.json and
    classes.txt.
    """
    from goca.datasets.scenes import CLASS_NAMES, make_scene
    from goca.render import class_colours, indexed_image

    if (out / "images").is_dir() and any((out / "images").iterdir()):
        raise ValueError(f"{out} already holds scenes; choose another folder with --out or remove it first")
    try:
        for folder in ("images", "labels"):
            (out / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write to the folder {out} ({error.strerror}); choose another one with --out") from error
    captions, colours = {}, class_colours(CLASS_NAMES)
    with progress("drawing") as report:
        for index in range(count):
            scene, name = make_scene(seed, index, size), f"{index:05d}.png"
            scene.image.save(out / "images" / name)
            indexed_image(scene.labels, colours).save(out / "labels" / name)
            captions[name] = {"caption": scene.caption}
            report(index + 1, count)
    (out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    (out / "captions.json").write_text(json.dumps(captions, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json({"folder": str(out), "count": count, "seed": seed, "classes": list(CLASS_NAMES)})
    else:
        typer.echo(f"{count} scene{'' if count == 1 else 's'} in {out}: images, labels, captions.json, classes.txt")
