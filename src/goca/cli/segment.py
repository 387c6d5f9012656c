"""``goca segment``: images in, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import clean_stdout, print_json, print_settings, progress, say, split_classes, split_list
from goca.cli.options import (
    BackgroundOption,
    CalibratedModelOptions,
    JsonOption,
    MethodOptions,
    OutOption,
    OverwriteOption,
    PresetOption,
    RayOptions,
    seed_option,
)
from goca.lookup import look_up
from goca.ranges import LARGEST_COUNT

if TYPE_CHECKING:
    from goca.distributed.cluster import ParquetSegmentations
    from goca.segment_many import SavedSegmentation, SavedSegmentations

SHOWN_IMAGES = 20


def segment(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (with their folders), patterns in quotes ('photos/**/*.jpg'), or text files "
            "with a path on each line.",
            metavar="IMAGE...",
        ),
    ],
    model: CalibratedModelOptions,
    method: MethodOptions,
    ray: RayOptions,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help='What to look for, separated by commas: "cat,grass,sky". Synonyms: "person|man|woman"; each is looked '
            "for, and a class takes the mean of what its words find."
        ),
    ] = None,
    classes_file: Annotated[
        Path | None, typer.Option(help="Text file with a class on each line, instead of --classes.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="What is in each image: captions as `goca caption` writes them (.json), or a table with the columns "
            "image and classes or caption (.csv). With --classes: those that an image's caption mentions."
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="A sentence that describes the images and mentions the classes.")
    ] = None,
    background: BackgroundOption = None,
    preset: PresetOption = None,
    seed: Annotated[int, seed_option("Seed of the noise.")] = 0,
    ignore_below: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Least margin of a pixel over the next class; pixels with less get no class (label 255, void).",
        ),
    ] = 0.0,
    drop_absent: Annotated[
        bool,
        typer.Option(
            "--drop-absent",
            help="Leave out classes that seem not to be in an image; costs four plain forwards for each class.",
        ),
    ] = False,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="For small things in large images: look also at N overlapping tiles along the longer side, 2 to 32, "
            "or auto for tiles of the model's own size, up to 8. Each costs what an image costs.",
        ),
    ] = None,
    upsample: Annotated[
        str, typer.Option(help="How maps come to the image's size, edges being those in the image: {upsampling}.")
    ] = "bilinear",
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_COUNT, help="Images that share a forward. Default: 1 on a CPU, 8 elsewhere."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="What to write, separated by commas: {formats}. Default: labels,overlay,heat,json."
        ),
    ] = None,
    out: OutOption = Path("goca-out"),
    overwrite: OverwriteOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was stopped, with the same settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Segment images into the classes that you name.

    Writes for every image IMAGE_overlay.png, IMAGE_labels.png (indexed), IMAGE_heat_CLASS.png and IMAGE.json (with
    COCO RLE), or what --format names. Images that cannot be decoded are listed, and the exit code is 1. With --ray
    IMAGE may also be a Parquet file with the columns path and bytes, or an address such as s3://bucket/folder, and the
    results are Parquet files with one row per image.

    Example: goca segment photo.jpg --classes "cat,grass,sky" --model sd15
    """
    from goca.image_texts import read_classes_file

    given = [*(classes or []), *(read_classes_file(classes_file) if classes_file else [])]
    names = split_classes(given) if given or captions is None else None
    request: dict[str, Any] = {
        "caption": caption,
        "background": split_list(background or []),
        "seed": seed,
        "ignore_below": ignore_below,
        "drop_absent": drop_absent,
        "tiles": int(tiles) if tiles is not None and tiles.isdecimal() else tiles,
        "upsample": upsample,
    }
    with clean_stdout():
        from goca.storage.outputs import check_folder
        from goca.tiles import check_resolution

        settings = method.settings
        check_resolution(request["tiles"], upsample)
        wanted = split_formats(formats, with_ray=ray.ray is not None)
        check_folder(out)
        if ray.ray is not None and (captions is not None or batch is not None or resume):
            raise ValueError("with --ray all images have the same classes; leave out --captions, --batch and --resume")
        if captions is not None and caption is not None:
            raise ValueError("--caption is for all images and --captions for each; leave out one of the two")
        workers = ray.connect(model.arguments(preset, settings))
        if workers is not None:
            answer = workers.segment(images, names or [], out, overwrite=overwrite, **request)
        else:
            from goca.image_files import find_images
            from goca.image_texts import read_texts, texts_of
            from goca.images import check_there, read_image
            from goca.segment_many import segment_many

            found = find_images(images)
            looked_for = names or []
            texts = None if captions is None else read_texts(captions, names)
            if texts is not None:
                texts_of(found, texts)
            check_there(found)
            if len(found) == 1:
                read_image(found[0])
            segmenter = model.load(preset, settings)
            resolved = segmenter.resolve()
            with progress("segmenting") as report:
                options: dict[str, Any] = {
                    "formats": wanted,
                    "overwrite": overwrite,
                    "resume": resume,
                    "batch_size": batch,
                }
                saved = segment_many(segmenter, found, texts or looked_for, out, **request, **options, progress=report)
    if workers is not None:
        print_rows(answer, out, as_json, settings)
    else:
        print_files(saved, out, as_json, settings, resolved.settings)
        if saved.failures:
            raise typer.Exit(1)


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


def print_files(
    saved: SavedSegmentations, out: Path, as_json: bool, settings: dict[str, Any], complete: dict[str, Any]
) -> None:
    """Say where the files of each image are.

    Args:
        settings: those of the method that were named on the command line.
        complete: all settings, as they are on the model.
    """
    for note in saved.notes:
        say(f"note: {note}", error=True)
    for path, reason in saved.failures:
        say(f"note: {path} failed: {reason}", error=True)
    if as_json:
        failed = [{"image": path, "reason": reason} for path, reason in saved.failures]
        print_json(
            {
                "method": complete,
                "results": [
                    {
                        "image": each.image,
                        "classes": [{"name": name, "area": share} for name, share in each.areas.items()],
                        "ignored": ignored_share(each),
                        "files": {key: str(path) for key, path in each.files.items()},
                        "notes": list(each.notes),
                    }
                    for each in saved.images
                ],
                **({"files": {key: str(path) for key, path in saved.files.items()}} if saved.files else {}),
                **({"failures": failed} if failed else {}),
            }
        )
        return
    print_settings(settings)
    for each in saved.images if len(saved.images) <= SHOWN_IMAGES else ():
        areas = ", ".join(f"{name} {share:.0%}" for name, share in each.areas.items())
        ignored = f", ignored {ignored_share(each):.0%}" if ignored_share(each) else ""
        say(f"{each.image}: {areas}{ignored}")
        say(f"  {each.files.get('overlay') or next(iter(each.files.values()), out)}")
    for shared in saved.files.values():
        say(str(shared))
    if len(saved.images) > SHOWN_IMAGES or saved.failures:
        say(f"{len(saved.images)} of {len(saved.images) + len(saved.failures)} images segmented: {out}")


def ignored_share(saved: SavedSegmentation) -> float:
    """The share of an image's pixels that no class has."""
    return max(0.0, round(1 - sum(saved.areas.values()), 6))


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
