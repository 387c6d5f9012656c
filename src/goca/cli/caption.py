"""``goca caption``: what is in the images, as a caption file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import clean_stdout, print_json, progress, say
from goca.cli.options import DeviceOption, JsonOption, OverwriteOption, count_option
from goca.ranges import LARGEST_PRICE, LONGEST_WAIT, MOST_AT_ONCE, SHORTEST_WAIT

if TYPE_CHECKING:
    from goca.captioning.job import Summary


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
    dataset: Annotated[str | None, typer.Option(help="Data set to caption instead of image files: {datasets}.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
    split: Annotated[str | None, typer.Option(help="The data set's split.")] = None,
    question: Annotated[
        str, typer.Option(help="What models are asked: {questions}. published lists the classes of the data set.")
    ] = "plain",
    limit: Annotated[int | None, count_option("At most so many images.")] = None,
    model: Annotated[str | None, typer.Option(help="openai, transformers: the model's name, hub id or folder.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="openai: the server, e.g. http://localhost:8000/v1. Default: OpenAI's.", envvar="OPENAI_BASE_URL"
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=MOST_AT_ONCE, help="openai: questions at the same time.")] = 4,
    timeout: Annotated[
        float, typer.Option(min=SHORTEST_WAIT, max=LONGEST_WAIT, help="openai: seconds that one answer may take.")
    ] = 60,
    input_price: Annotated[
        float | None,
        typer.Option(min=0, max=LARGEST_PRICE, help="openai: price of a million tokens asked, to report the cost."),
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, max=LARGEST_PRICE, help="openai: price of a million tokens answered.")
    ] = None,
    device: DeviceOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Name the things in images, in the format that 'goca evaluate' reads.

    An interrupted run goes on where it stopped: its answers lie in OUT.partial.jsonl. The key of a server is read from
    the environment variable OPENAI_API_KEY. The exit code is 1 where an image got no caption.

    Example: goca caption photo.jpg --base-url http://localhost:8000/v1 --model qwen2.5-vl-7b
    """
    with clean_stdout():
        from goca.captioning.job import caption_dataset, caption_files, check_files
        from goca.captioning.request import write_question
        from goca.captioning.sources import SOURCES, local_source, server_source
        from goca.datasets import open_dataset
        from goca.lookup import look_up

        look_up(SOURCES, source, "source")
        if bool(images) == (dataset is not None):
            raise ValueError("give image files or a data set with --dataset, one of the two")
        opened = None
        if dataset is not None:
            endless = {"limit": limit} if dataset == "scenes" and limit is not None else {}  # their number has no end
            opened = open_dataset(dataset, root=root, split=split, **endless)
        elif source == "classes":
            raise ValueError("--source classes reads the labels of a data set; name it with --dataset")
        check_files(images or [])
        if source != "classes" and not model:
            raise ValueError(f"name the model that --source {source} asks with --model")
        text, asked = write_question(question, opened), None
        if source == "openai":
            asked = server_source(model or "", base_url, question=text, timeout=timeout, concurrency=concurrency)
        elif source == "transformers":
            asked = local_source(model or "", device, question=text)
        with progress("captioning") as report:
            options: dict[str, Any] = {"limit": limit, "overwrite": overwrite, "progress": report}
            if opened is not None:
                summary = caption_dataset(opened, asked, out, **options, split=split)
            elif asked is not None:
                summary = caption_files(images or [], asked, out, **options)
    cost = _cost(summary, input_price, output_price) if source == "openai" else 0.0
    _tell(summary, out, cost, as_json)
    if summary.failures:
        raise typer.Exit(1)


def _cost(summary: Summary, input_price: float | None, output_price: float | None) -> float | None:
    """In the currency of the prices; ``None`` where they are not known."""
    if input_price is None or output_price is None:
        return None
    return (summary.prompt_tokens * input_price + summary.completion_tokens * output_price) / 1e6


def _tell(summary: Summary, out: Path, cost: float | None, as_json: bool) -> None:
    for name, reason in summary.failures.items():
        say(f"no caption for {name}: {reason}", error=True)
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
    spent = f", {tokens} tokens" * bool(tokens) + (f", cost {cost:.4f}" if cost else "")
    say(f"{len(summary.captions)} captions in {out}, {len(summary.failures)} failures{spent}")
