"""``goca segment``: images in, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.caption_options import CaptionWithOptions
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
from goca.cli.video import VideoOptions, print_video
from goca.lookup import look_up
from goca.ranges import LARGEST_COUNT

if TYPE_CHECKING:
    from goca.captioning.sources import Source
    from goca.distributed.cluster import ParquetSegmentations
    from goca.image_texts import ImageText
    from goca.segment_many import SavedSegmentation, SavedSegmentations

SHOWN_IMAGES = 20


def segment(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (with their folders), patterns in quotes ('photos/**/*.jpg'), text files "
            "with a path on each line, or one video.",
            metavar="IMAGE...",
        ),
    ],
    model: CalibratedModelOptions,
    method: MethodOptions,
    ray: RayOptions,
    captioning: CaptionWithOptions,
    frames: VideoOptions,
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
            "--format",
            help="What to write, separated by commas: {formats}. Default: labels,overlay,heat,json. Of a video also: "
            "video, which is its default.",
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
    and none of --format, --batch, --resume, --captions and --caption-with the results are Parquet files with one row
    per image, and IMAGE may also be a Parquet file with the columns path and bytes, or an address such as
    s3://bucket/folder.

    Example: goca segment photo.jpg --classes "cat,grass,sky" --model sd15
    """
    with clean_stdout():
        from goca.image_texts import read_classes_file
        from goca.storage.outputs import check_folder
        from goca.tiles import check_resolution

        given = [*(classes or []), *(read_classes_file(classes_file) if classes_file else [])]
        described = captions is not None or captioning.caption_with is not None
        names = split_classes(given) if given or not described else None
        request: dict[str, Any] = {
            "caption": caption,
            "background": split_list(background or []),
            "seed": seed,
            "ignore_below": ignore_below,
            "drop_absent": drop_absent,
            "tiles": int(tiles) if tiles is not None and tiles.isdecimal() else tiles,
            "upsample": upsample,
        }
        check_resolution(request["tiles"], upsample)
        settings, video = method.settings, frames.find(images)
        wanted = split_formats(formats, of_video=video is not None)
        check_folder(out)
        if sum((captions is not None, caption is not None, captioning.caption_with is not None)) > 1:
            raise ValueError("--caption, --captions and --caption-with say the same; leave out all but one of them")
        workers = ray.connect(model.arguments(preset, settings))
        if video is not None:
            if described or resume or workers is not None:
                raise ValueError("a video takes no --captions, --caption-with, --resume and --ray; leave them out")
            request |= {"formats": wanted, "overwrite": overwrite, "batch_size": batch}
            clip, complete = frames.segment(video, names or [], out, model, preset, settings, **request)
            show = partial(print_video, clip, video, out, as_json, settings, complete)
        elif workers is not None and not (formats or described or resume or batch):
            rows = workers.segment(images, names or [], out, overwrite=overwrite, **request)
            show = partial(print_rows, rows, out, as_json, settings)
        else:
            from goca.segment_many import check_outputs, segment_many

            found = find_files(images)
            texts = None if captions is None else read_captions(captions, names, found)
            source = captioning.source(model.device)
            if source is not None:
                if not (resume or overwrite):
                    check_outputs(found, out, wanted)
                texts = ask(source, found, out, names, wanted, overwrite)
                source = None  # a local model leaves the memory
            segmenter = model.load(preset, settings)
            compute = None if workers is None else workers.segment_groups
            request |= {"formats": wanted, "overwrite": overwrite, "resume": resume, "batch_size": batch}
            looked_for = (names or []) if texts is None else texts
            with progress("segmenting") as report:
                saved = segment_many(segmenter, found, looked_for, out, **request, compute=compute, progress=report)
            show = partial(print_files, saved, out, as_json, settings, segmenter.resolve().settings)
    show()


def find_files(sources: Sequence[str]) -> list[str]:
    """The image files that are meant; a single one can be read.

    Raises:
        ValueError: see :func:`goca.image_files.find_images`, or a file that is not there.
    """
    from goca.image_files import find_images
    from goca.images import check_there, read_image

    tables = [source for source in sources if source.endswith(".parquet")]
    if tables:
        raise ValueError(f"{tables[0]} is no image; a Parquet file of images needs --ray and no --format")
    found = find_images(sources)
    check_there(found)
    if len(found) == 1:
        read_image(found[0])
    return found


def read_captions(path: Path, names: Sequence[str] | None, images: Sequence[str]) -> dict[str, ImageText]:
    """What ``--captions`` says of the images.

    Raises:
        ValueError: the file is damaged, or its names are not those of the images.
    """
    from goca.image_texts import read_texts, texts_of

    texts = read_texts(path, names)
    texts_of(images, texts)
    return texts


def ask(
    source: Source, images: Sequence[str], out: Path, names: Sequence[str] | None, formats: Sequence[str], replace: bool
) -> dict[str, ImageText]:
    """What ``--caption-with`` says of the images.

    Raises:
        ValueError: a format that has captions of its own. OSError: the source cannot answer at all.
    """
    from goca.captioning.texts import caption_images

    if "folder" in formats:
        raise ValueError("the format folder writes captions.json itself; leave out one of it and --caption-with")
    with progress("captioning") as report:
        return caption_images(images, source, out, classes=names, overwrite=replace, progress=report)


def split_formats(values: Sequence[str] | None, of_video: bool = False) -> list[str]:
    """The entries of ``--format``; the default ones without it.

    Raises:
        ValueError: an unknown format.
    """
    from goca.export import DEFAULT_FORMATS, FORMATS

    names = split_list(values or (["video"] if of_video else DEFAULT_FORMATS))
    for name in names:
        look_up([*FORMATS, *(["video"] if of_video else [])], name, "format")
    return names


def print_files(
    saved: SavedSegmentations, out: Path, as_json: bool, settings: dict[str, Any], complete: dict[str, Any]
) -> None:
    """Say where the files of each image are; exit code 1 where an image failed.

    Args:
        settings: those of the method that were named on the command line.
        complete: all settings, as they are on the model.
    """
    for note in saved.notes:
        say(f"note: {note}", error=True)
    for path, reason in saved.failures:
        say(f"note: {path} failed: {reason}", error=True)
    if as_json:
        print_json({"method": complete, **describe_files(saved)})
    else:
        print_settings(settings)
        list_files(saved, out)
    if saved.failures:
        raise typer.Exit(1)


def describe_files(saved: SavedSegmentations) -> dict[str, Any]:
    """What was written, as JSON."""
    results = [
        {
            "image": each.image,
            "classes": [{"name": name, "area": share} for name, share in each.areas.items()],
            "ignored": ignored_share(each),
            "files": {key: str(path) for key, path in each.files.items()},
            "notes": list(each.notes),
        }
        for each in saved.images
    ]
    failed = [{"image": path, "reason": reason} for path, reason in saved.failures]
    shared = {key: str(path) for key, path in saved.files.items()}
    return {"results": results, **({"files": shared} if shared else {}), **({"failures": failed} if failed else {})}


def list_files(saved: SavedSegmentations, out: Path) -> None:
    """Print a line or two for each image, and where the files for all images are."""
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
