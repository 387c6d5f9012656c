"""``goca evaluate``: methods side by side on a data set."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

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
    split_list,
)
from goca.cli.segment import check_folder

if TYPE_CHECKING:
    from goca.datasets.base import Dataset
    from goca.evaluation.baselines import MethodVariant
    from goca.models.specs import ModelSpec

DEFAULT_SCENES = 200
SHOWN = 10

DatasetOption = Annotated[
    str,
    typer.Option(help="Data set: scenes, voc, context, coco-object, coco-stuff, cityscapes, ade20k, camvid, folder."),
]
RootOption = Annotated[Path | None, typer.Option(help="Folder of the data set's files.")]
SplitOption = Annotated[str | None, typer.Option(help="Split of the data set. Default: the protocol's.")]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help="standard: validation split, void not counted, fixed threshold. paper: as the paper's tables, which look "
        "at the target labels for the classes and the best threshold."
    ),
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Threshold of the background, instead of the protocol's sweep or default.")
]
CaptionsOption = Annotated[
    str | None,
    typer.Option(
        help="Caption file (goca caption writes one), or 'classes': the names of the classes in the target labels. "
        "Default: the data set's own words, else 'classes'.",
        metavar="FILE|classes",
    ),
]
AlignmentOption = Annotated[str, typer.Option(help="How captions are matched with classes: exact, published.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="How many images. Default: all; 200 scenes.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Series of scenes; seed of the noise for other data sets.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Images that are computed and written down together.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for records.jsonl (one line per image), results.json and report.html.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the records in the folder of --out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@dataclass(frozen=True)
class Request:
    """What is evaluated on what, apart from the methods; the options of ``goca evaluate`` and ``goca ablate``."""

    dataset: str
    root: Path | None
    split: str | None
    protocol: str
    threshold: float | None
    captions: str | None
    alignment: str
    limit: int | None
    seed: int
    batch: int
    out: Path | None
    resume: bool
    ray: str | None = None
    workers: int = 2


def evaluate(
    dataset: DatasetOption = "scenes",
    root: RootOption = None,
    split: SplitOption = None,
    protocol: ProtocolOption = "standard",
    threshold: ThresholdOption = None,
    captions: CaptionsOption = None,
    alignment: AlignmentOption = "exact",
    presets: Annotated[
        str,
        typer.Option(
            help="Methods to compare, separated by commas: presets (paper, plus, sharp, vanilla, manual) and baselines "
            "(daam, single-layer, vanilla+pamr, vanilla+crf)."
        ),
    ] = "vanilla,paper",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch: BatchOption = 8,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Refine the maps by self-attention and sharpen them.")
    ] = True,
    model: ModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: OffloadOption = None,
    revision: RevisionOption = None,
    lora: LoraOption = None,
    fast: FastOption = False,
    size: SizeOption = None,
    keep_aspect: AspectOption = False,
    out: OutOption = None,
    resume: ResumeOption = False,
    ray: RayOption = None,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Compare methods by their agreement with the true masks: mIoU, pixel accuracy, boundary IoU.

    All methods share the recordings of one pass over the images. With --out every image is written down as it
    finishes, and --resume continues after an interruption. The exit code is 1 where an image failed.

    Example: goca evaluate --dataset scenes --limit 60 --presets vanilla,paper,daam --out scores
    """
    request = Request(
        dataset, root, split, protocol, threshold, captions, alignment, limit, seed, batch, out, resume, ray, workers
    )
    with clean_stdout():
        from goca.evaluation.baselines import find_variants

        variants = find_variants(split_list([presets]), refine)
        answer = run(
            request,
            lambda spec: variants,
            model=model,
            device=device,
            dtype=dtype,
            offload=offload,
            revision=revision,
            lora=lora,
            fast=fast,
            size=size,
            keep_aspect=keep_aspect,
        )
    table = Table("preset", "mIoU", "pixel acc.", "boundary IoU", "threshold", title=title(answer))
    for result in answer["results"]:
        table.add_row(result["preset"], *figures(result))
    finish(answer, table, as_json)


def run(
    request: Request, choose: Callable[[ModelSpec], Mapping[str, MethodVariant]], **model_options: Any
) -> dict[str, Any]:
    """Evaluate, and write the files where a folder is named.

    Args:
        choose: from the model's settings to the methods by name.
        model_options: see :func:`goca.cli.common.load_segmenter`.
    """
    from goca.evaluation.baselines import check_layers
    from goca.evaluation.protocols import adapt_to, find_protocol
    from goca.evaluation.report import write_report
    from goca.evaluation.runner import count_images, evaluate
    from goca.evaluation.summary import summarise
    from goca.evaluation.task import Task, configuration
    from goca.storage.atomic import write_atomically
    from goca.storage.journal import RecordFile
    from goca.text.align import Rule

    if request.resume and request.out is None:
        raise ValueError("--resume continues the records of a folder; name it with --out")
    if request.out is not None:
        check_folder(request.out)
    if request.alignment not in get_args(Rule):
        raise ValueError(f"unknown alignment {request.alignment!r}; choose one of {', '.join(get_args(Rule))}")
    protocol = find_protocol(request.protocol, request.dataset, request.threshold)
    dataset, options = open_samples(request, request.split or protocol.split)
    count = count_images(dataset, request.limit)
    captions, file, unused = read_captions(request.captions, dataset.names[:count])
    segmenter = load_segmenter(**model_options)
    variants = choose(segmenter.model.spec)
    check_layers(variants, segmenter.model.spec)
    noise = 0 if "seed" in options else request.seed
    task = Task(dataset.classes, variants, adapt_to(protocol, dataset), captions, cast(Rule, request.alignment), noise)
    chosen = {key: model_options[key] for key in ("revision", "lora") if model_options.get(key) is not None}
    settings = {
        **configuration(segmenter, dataset, task, count=count, batch=request.batch, caption_file=file),
        "dataset options": options,
        "model options": chosen,
    }
    with contextlib.ExitStack() as stack:
        records = None
        if request.out is not None:
            request.out.mkdir(parents=True, exist_ok=True)
            records = RecordFile(request.out / "records.jsonl", settings, resume=request.resume)
            stack.enter_context(records)
        report = stack.enter_context(progress("evaluating"))
        compute = None
        if request.ray is not None:
            from goca.distributed.cluster import connect, evaluate_groups

            connect(request.ray, request.workers)
            compute = partial(
                evaluate_groups,
                model=model_options,
                dataset=dataset,
                task=task,
                address=request.ray,
                workers=request.workers,
            )
        found = evaluate(
            segmenter,
            dataset,
            task,
            limit=count,
            batch=request.batch,
            records=records,
            progress=report,
            compute=compute,
        )
    answer = {
        "dataset": dataset.key,
        "model": segmenter.model.spec.name,
        "fast": segmenter.fast,
        "captions_without_image": unused,
        "notes": unknown_words(segmenter.model.spec, task.class_names),
        **summarise(found, task),
        "settings": settings,
    }
    if request.out is not None:
        text = json.dumps(answer, indent=1, ensure_ascii=False)
        write_atomically(request.out / "results.json", text + "\n")
        write_report(request.out / "report.html", answer, segmenter, dataset, task, found)
    return answer


def open_samples(request: Request, split: str | None) -> tuple[Dataset, dict[str, Any]]:
    """The data set, and the options that its content depends on."""
    from goca.datasets import open_dataset

    options: dict[str, Any] = {}
    if request.dataset == "scenes":
        options = {"seed": request.seed, "limit": request.limit or DEFAULT_SCENES}
    dataset = open_dataset(request.dataset, root=request.root, split=split, **options)
    return dataset, {"split": split, **options}


def read_captions(source: str | None, names: Sequence[str]) -> tuple[str | dict[str, str], Path | None, int]:
    """The source of captions for :class:`goca.evaluation.task.Task`, its file, and how many of the file's captions
    belong to none of the images.

    Raises:
        ValueError: a damaged file, or one without a caption for any image.
    """
    from goca.evaluation.task import CLASSES, OWN
    from goca.storage.captions import check_captions, load_captions

    if source is None or source == CLASSES:
        return source or OWN, None, 0
    captions = load_captions(source)
    mismatch = check_captions(captions, names)
    if len(mismatch.missing) == len(names):
        raise ValueError(f"{source} has a caption for none of the {len(names)} images, which are called {names[0]} ...")
    return captions, Path(source), len(mismatch.unknown)


def unknown_words(spec: ModelSpec, names: Sequence[str]) -> list[str]:
    """A sentence where a model of few words has not seen some of the classes' names."""
    unknown = [] if spec.vocabulary is None else [name for name in names if name not in spec.vocabulary]
    if not unknown:
        return []
    return [f"{spec.name} has never seen the words {', '.join(unknown)}; take a big model, e.g. --model sd15"]


def title(answer: dict[str, Any]) -> str:
    """The heading of a table."""
    images = answer["settings"]["images"] - len(answer["failures"])
    return f"{answer['model']} on {images} images of {answer['dataset']}, {answer['settings']['protocol']['name']}"


def figures(result: dict[str, Any]) -> list[str]:
    """The cells of one method's row."""
    shares = [f"{result[key]:.3f}" for key in ("miou", "pixel_accuracy", "boundary_iou")]
    return [*shares, "-" if result["threshold"] is None else f"{result['threshold']:g}"]


def finish(answer: dict[str, Any], table: Table, as_json: bool) -> None:
    """Print the answer and the warnings; exit code 1 where an image failed."""
    if as_json:
        results = [{key: each[key] for key in each if key != "confusion"} for each in answer["results"]]
        print_json({**answer, "results": results})
    else:
        Console().print(table)
    notes = [*answer["notes"]]
    if answer["missed"]:
        missed = sorted(answer["missed"].items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} (in {count} images)" for name, count in missed[:SHOWN])
        more = f" and {len(missed) - SHOWN} classes more" if len(missed) > SHOWN else ""
        notes.append(f"not looked for where they are, as the caption lacks them or is too long: {shown}{more}")
    if answer["never_named"]:
        notes.append(f"never looked for at all: {', '.join(answer['never_named'])}")
    if answer["captions_without_image"]:
        notes.append(f"{answer['captions_without_image']} captions belong to none of the images")
    failures = answer["failures"]
    notes += [f"{each['image']} failed: {each['reason']}" for each in failures[:SHOWN]]
    if len(failures) > SHOWN:
        notes.append(f"{len(failures) - SHOWN} more images failed")
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if failures:
        raise typer.Exit(1)
