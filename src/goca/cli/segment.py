"""``goca segment``: images in, pictures and JSON out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import (
    AspectOption,
    DeviceOption,
    DtypeOption,
    FastOption,
    LoraOption,
    ModelOption,
    OffloadOption,
    RayOption,
    RevisionOption,
    SizeOption,
    WorkersOption,
    clean_stdout,
    load_segmenter,
    print_json,
    progress,
    split_classes,
    split_list,
)

if TYPE_CHECKING:
    from goca.result import Segmentation


def segment(
    images: Annotated[list[str], typer.Argument(help="Image files.", metavar="IMAGE...")],
    classes: Annotated[
        list[str],
        typer.Option(help='What to look for, separated by commas: "cat,grass,sky". Synonyms: "person|man|woman".'),
    ],
    caption: Annotated[
        str | None, typer.Option(help="A sentence that describes the images and mentions the classes.")
    ] = None,
    background: Annotated[
        list[str] | None, typer.Option(help="Phrases for everything else, separated by commas, e.g. background.")
    ] = None,
    model: ModelOption = None,
    preset: Annotated[
        str | None, typer.Option(help="Method: paper, plus, sharp, vanilla, manual. Default: the model's own.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Score of the background, which gets the pixels where no class scores more.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: OffloadOption = None,
    revision: RevisionOption = None,
    lora: LoraOption = None,
    fast: FastOption = False,
    size: SizeOption = None,
    keep_aspect: AspectOption = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("goca-out"),
    ray: RayOption = None,
    workers: WorkersOption = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Segment images into the classes that you name.

    Writes for every image IMAGE_overlay.png, IMAGE_labels.png (indexed), IMAGE_heat_CLASS.png and IMAGE.json (with
    COCO RLE). With --ray IMAGE may also be a folder, a Parquet file with the columns path and bytes, or an address such
    as s3://bucket/folder, and the results are Parquet files with one row per image.

    Example: goca segment photo.jpg --classes "cat,grass,sky" --model sd15
    """
    names, phrases = split_classes(classes), split_list(background or [])
    options: dict[str, Any] = {
        "model": model,
        "preset": preset,
        "device": device,
        "dtype": dtype,
        "offload": offload,
        "revision": revision,
        "lora": lora,
        "fast": fast,
        "size": size,
        "keep_aspect": keep_aspect,
    }
    check_folder(out)
    if ray is not None:
        if threshold is not None:
            raise ValueError("--threshold is not available with --ray; name --background instead")
        request = {"classes": names, "caption": caption, "background": phrases, "seed": seed}
        _segment_on_ray(images, options, request, out, ray, workers, as_json)
        return
    with clean_stdout():
        check_images(images)
        segmenter = load_segmenter(**options)
        if threshold is not None:
            method = segmenter.method
            segmenter.method = replace(method, threshold=threshold)
        segmenter.prompt(names, caption=caption, background=phrases)
        answers = []
        with progress("segmenting") as report:
            for done, (image, stem) in enumerate(zip(images, file_stems(images), strict=True)):
                report(done, len(images))
                result = segmenter(image, names, caption=caption, background=phrases, seed=seed)
                answers.append(describe(image, result, result.save(out, stem)))
    for note in dict.fromkeys(note for answer in answers for note in answer["notes"]):
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json({"results": answers})
    else:
        for answer in answers:
            areas = ", ".join(f"{entry['name']} {entry['area']:.0%}" for entry in answer["classes"])
            typer.echo(f"{answer['image']}: {areas}\n  {answer['files']['overlay']}")


def _segment_on_ray(
    images: list[str],
    options: dict[str, Any],
    request: dict[str, Any],
    out: Path,
    address: str,
    workers: int,
    as_json: bool,
) -> None:
    """Segment on a cluster, then say what failed; exit code 1 where an image did."""
    with clean_stdout():
        from goca.distributed.cluster import segment_files

        count, failures = segment_files(images, options, request, str(out), address=address, workers=workers)
    for path, reason in failures:
        typer.echo(f"note: {path} failed: {reason}", err=True)
    if as_json:
        failed = [{"image": path, "reason": reason} for path, reason in failures]
        print_json({"images": count, "failures": failed, "out": str(out)})
    else:
        typer.echo(f"{count - len(failures)} of {count} images segmented: {out}")
    if failures:
        raise typer.Exit(1)


def check_images(images: list[str]) -> None:
    """Decode every image once, so that a bad one is refused before anything is computed or written."""
    from goca.images import read_image

    for image in images:
        read_image(image)


def check_folder(folder: Path) -> None:
    """Raise ``OSError`` early where the folder to write to is a file or lies below one."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise OSError(f"cannot write to the folder {folder} ({path} is a file); choose another one with --out")


def file_stems(images: list[str]) -> list[str]:
    """One stem per image for its results; the second ``cat`` of another folder becomes ``cat-2``."""
    taken: set[str] = set()
    stems = []
    for image in images:
        stem, number = Path(image).stem, 2
        while stem.casefold() in taken:
            stem, number = f"{Path(image).stem}-{number}", number + 1
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def describe(image: str, result: Segmentation, files: dict[str, Path]) -> dict[str, Any]:
    """What the command says about one image."""
    areas = [{"name": name, "area": share} for name, share in result.areas.items()]
    paths = {key: str(path) for key, path in files.items()}
    return {"image": image, "classes": areas, "files": paths, "notes": list(result.notes)}
