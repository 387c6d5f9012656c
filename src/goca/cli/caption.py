"""``goca caption``: what is in the images, as a caption file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import DeviceOption, check_device, clean_stdout, print_json, progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from goca.captioning.job import Summary
    from goca.captioning.request import Reply
    from goca.datasets.base import Sample

SOURCES = ("classes", "openai", "transformers")


def caption(
    images: Annotated[list[str] | None, typer.Argument(help="Image files.", metavar="IMAGE")] = None,
    source: Annotated[
        str,
        typer.Option(
            help="Where captions come from: classes (the labels of the data set), openai (any server with that "
            "interface), transformers (a vision-language model on this machine)."
        ),
    ] = "openai",
    out: Annotated[Path, typer.Option(help="Caption file to write.")] = Path("captions.json"),
    dataset: Annotated[str | None, typer.Option(help="Data set to caption instead of image files.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
    split: Annotated[str | None, typer.Option(help="The data set's split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images.")] = None,
    model: Annotated[str | None, typer.Option(help="openai, transformers: the model's name, hub id or folder.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="openai: the server, e.g. http://localhost:8000/v1. Default: OpenAI's.", envvar="OPENAI_BASE_URL"
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="openai: questions at the same time.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="openai: seconds that one answer may take.")] = 60,
    input_price: Annotated[
        float | None, typer.Option(min=0, help="openai: price of a million tokens asked, to report the cost.")
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, help="openai: price of a million tokens answered.")
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Name the things in images, in the format that 'goca evaluate' reads.

    An interrupted run goes on where it stopped: its answers lie in OUT.partial.jsonl. The key of a server is read from
    the environment variable OPENAI_API_KEY. The exit code is 1 where an image got no caption.

    Example: goca caption photo.jpg --base-url http://localhost:8000/v1 --model qwen2.5-vl-7b
    """
    with clean_stdout():
        from goca.captioning.job import caption_all

        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}; choose one of {', '.join(SOURCES)}")
        subjects, ask = _subjects(images or [], dataset, root, split, limit, source)
        subjects = dict(list(subjects.items())[:limit])
        if ask is None:
            if not model:
                raise ValueError(f"name the model that --source {source} asks with --model")
            check_device(device)
            ask = _open_source(source, model, base_url, timeout, device)
        with progress("captioning") as report:
            summary = caption_all(
                subjects,
                ask,
                out,
                _settings(source, model, base_url, dataset, split),
                concurrency=concurrency if source == "openai" else 1,
                progress=report,
            )
    cost = _cost(summary, input_price, output_price) if source == "openai" else 0.0
    _tell(summary, out, cost, as_json)
    if summary.failures:
        raise typer.Exit(1)


def _subjects(
    images: list[str], dataset: str | None, root: Path | None, split: str | None, limit: int | None, source: str
) -> tuple[dict[str, Callable[[], Any]], Callable[[Any, int], Reply] | None]:
    """What reads each image, by name; and who is asked, where that is the data set itself."""
    from goca.images import read_image

    if bool(images) == (dataset is not None):
        raise ValueError("give image files or a data set with --dataset, one of the two")
    if dataset is None:
        if source == "classes":
            raise ValueError("--source classes reads the labels of a data set; name it with --dataset")
        for path in images:
            if not Path(path).is_file():
                raise ValueError(f"no such image file: {path}; check the path")
        names = [Path(path).name for path in images]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two images are called {twice[0]}; caption files tell images by name, so rename one")
        return {name: partial(read_image, path) for name, path in zip(names, images, strict=True)}, None

    from goca.captioning.request import Reply, name_classes
    from goca.datasets import open_dataset

    options = {"limit": limit} if dataset == "scenes" and limit is not None else {}  # there is no end of scenes
    opened = open_dataset(dataset, root=root, split=split, **options)
    samples: dict[str, Callable[[], Any]] = {
        name: partial(opened.__getitem__, index) for index, name in enumerate(opened.names)
    }
    if source == "classes":
        return samples, lambda sample, attempt: Reply(name_classes(opened, sample))
    return {name: partial(_read_picture, read) for name, read in samples.items()}, None


def _read_picture(read: Callable[[], Sample]) -> Image:
    return read().image


def _open_source(
    source: str, model: str, base_url: str | None, timeout: float, device: str | None
) -> Callable[[Any, int], Reply]:
    if source == "openai":
        from goca.captioning.server import Server

        return Server(model, base_url, timeout=timeout)
    from goca.captioning.local_model import LocalModel

    return LocalModel(model, device)


def _settings(
    source: str, model: str | None, base_url: str | None, dataset: str | None, split: str | None
) -> dict[str, str]:
    """What answers depend on; a file begun with other settings is not continued."""
    from goca.captioning.request import REQUEST

    named = {"source": source, "model": model, "server": base_url, "data set": dataset, "split": split}
    settings = {name: value for name, value in named.items() if value is not None}
    return settings if source == "classes" else {**settings, "question": REQUEST}


def _cost(summary: Summary, input_price: float | None, output_price: float | None) -> float | None:
    """In the currency of the prices; ``None`` where they are not known."""
    if input_price is None or output_price is None:
        return None
    return (summary.prompt_tokens * input_price + summary.completion_tokens * output_price) / 1e6


def _tell(summary: Summary, out: Path, cost: float | None, as_json: bool) -> None:
    for name, reason in summary.failures.items():
        typer.echo(f"no caption for {name}: {reason}", err=True)
    if as_json:
        print_json(
            {
                "file": str(out),
                "captions": len(summary.captions),
                "resumed": summary.resumed,
                "failures": summary.failures,
                "usage": {"prompt_tokens": summary.prompt_tokens, "completion_tokens": summary.completion_tokens},
                "cost": cost,
            }
        )
        return
    tokens = summary.prompt_tokens + summary.completion_tokens
    spent = f", {tokens} tokens" * bool(tokens) + f", cost {cost:.4f}" * bool(cost)
    typer.echo(f"{len(summary.captions)} captions in {out}, {len(summary.failures)} failures{spent}")
