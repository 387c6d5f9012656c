"""``goca segment``: images in, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import clean_stdout, print_json, print_settings, progress, say, split_classes, split_list
from goca.cli.options import (
    JsonOption,
    MethodOptions,
    ModelOptions,
    OutOption,
    OverwriteOption,
    RayOptions,
    seed_option,
)
from goca.lookup import look_up

if TYPE_CHECKING:
    from goca.distributed.cluster import ParquetSegmentations
    from goca.segment_many import SavedSegmentations


def segment(
    images: Annotated[list[str], typer.Argument(help="Image files.", metavar="IMAGE...")],
    classes: Annotated[
        list[str],
        typer.Option(
            help='What to look for, separated by commas: "cat,grass,sky". Synonyms: "person|man|woman"; each is looked '
            "for, and a class takes the mean of what its words find."
        ),
    ],
    model: ModelOptions,
    method: MethodOptions,
    ray: RayOptions,
    caption: Annotated[
        str | None, typer.Option(help="A sentence that describes the images and mentions the classes.")
    ] = None,
    background: Annotated[
        list[str] | None, typer.Option(help="Phrases for everything else, separated by commas, e.g. background.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Method: {presets}. Default: the model's own.")] = None,
    seed: Annotated[int, seed_option("Seed of the noise.")] = 0,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="What to write, separated by commas: {formats}. Default: labels,overlay,heat,json."
        ),
    ] = None,
    out: OutOption = Path("goca-out"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment images into the classes that you name.

    Writes for every image IMAGE_overlay.png, IMAGE_labels.png (indexed), IMAGE_heat_CLASS.png and IMAGE.json (with
    COCO RLE), or what --format names. With --ray IMAGE may also be a folder, a Parquet file with the columns path and
    bytes, or an address such as s3://bucket/folder, and the results are Parquet files with one row per image.

    Example: goca segment photo.jpg --classes "cat,grass,sky" --model sd15
    """
    names = split_classes(classes)
    request: dict[str, Any] = {
        "caption": caption,
        "background": split_list(background or []),
        "seed": seed,
    }
    with clean_stdout():
        from goca.storage.outputs import check_folder

        settings = method.settings
        wanted = split_formats(formats, with_ray=ray.ray is not None)
        check_folder(out)
        workers = ray.connect(model.arguments(preset, settings))
        if workers is not None:
            answer = workers.segment(images, names, out, overwrite=overwrite, **request)
        else:
            from goca.segment_many import check_images, segment_many

            check_images(images)
            segmenter = model.load(preset, settings)
            resolved = segmenter.resolve()
            with progress("segmenting") as report:
                options: dict[str, Any] = {"formats": wanted, "overwrite": overwrite, "progress": report}
                saved = segment_many(segmenter, images, names, out, **request, **options)
    if workers is not None:
        print_rows(answer, out, as_json, settings)
    else:
        print_files(saved, as_json, settings, resolved.settings)


def split_formats(values: Sequence[str] | None, with_ray: bool) -> list[str]:
    """The entries of ``--format``; the default ones without it.

    Raises:
        ValueError: an unknown format, or one with Ray, whose workers write Parquet files alone.
    """
    from goca.export import DEFAULT_FORMATS, FORMATS

    if values and with_ray:
        raise ValueError("with --ray the results are Parquet files; leave --format out")
    names = split_list(values or DEFAULT_FORMATS)
    for name in names:
        look_up(FORMATS, name, "format")
    return names


def print_files(saved: SavedSegmentations, as_json: bool, settings: dict[str, Any], complete: dict[str, Any]) -> None:
    """Say where the files of each image are.

    Args:
        settings: those of the method that were named on the command line.
        complete: all settings, as they are on the model.
    """
    for note in saved.notes:
        say(f"note: {note}", error=True)
    if as_json:
        print_json(
            {
                "method": complete,
                "results": [
                    {
                        "image": each.image,
                        "classes": [{"name": name, "area": share} for name, share in each.areas.items()],
                        "files": {key: str(path) for key, path in each.files.items()},
                        "notes": list(each.notes),
                    }
                    for each in saved.images
                ],
                **({"files": {key: str(path) for key, path in saved.files.items()}} if saved.files else {}),
            }
        )
        return
    print_settings(settings)
    for each in saved.images:
        areas = ", ".join(f"{name} {share:.0%}" for name, share in each.areas.items())
        say(f"{each.image}: {areas}")
        for path in [each.files["overlay"]] if "overlay" in each.files else list(each.files.values())[:1]:
            say(f"  {path}")
    for path in saved.files.values():
        say(str(path))


def print_rows(answer: ParquetSegmentations, out: Path, as_json: bool, settings: dict[str, Any]) -> None:
    """Say what failed; exit code 1 where an image did."""
    for path, reason in answer.failures:
        say(f"note: {path} failed: {reason}", error=True)
    if as_json:
        failed = [{"image": path, "reason": reason} for path, reason in answer.failures]
        print_json({"images": answer.count, "failures": failed, "out": str(out), "method_settings": settings})
    else:
        print_settings(settings)
        say(f"{answer.count - len(answer.failures)} of {answer.count} images segmented: {out}")
    if answer.failures:
        raise typer.Exit(1)
