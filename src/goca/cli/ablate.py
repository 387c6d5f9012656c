"""``goca ablate``: what each part of the method adds."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from goca.cli.common import (
    AspectOption,
    DeviceOption,
    DtypeOption,
    FastOption,
    LoraOption,
    ModelOption,
    OffloadOption,
    RevisionOption,
    SizeOption,
    clean_stdout,
)
from goca.cli.evaluate import (
    AlignmentOption,
    BatchOption,
    CaptionsOption,
    DatasetOption,
    JsonOption,
    LimitOption,
    OutOption,
    ProtocolOption,
    Request,
    ResumeOption,
    RootOption,
    SeedOption,
    SplitOption,
    ThresholdOption,
    figures,
    finish,
    run,
    title,
)


def ablate(
    dataset: DatasetOption = "scenes",
    root: RootOption = None,
    split: SplitOption = None,
    protocol: ProtocolOption = "standard",
    threshold: ThresholdOption = None,
    captions: CaptionsOption = None,
    alignment: AlignmentOption = "exact",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    batch: BatchOption = 8,
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
    as_json: JsonOption = False,
) -> None:
    """Measure what head aggregation, layer aggregation and rescaling add, each alone and together.

    The rows are those of the paper's ablation, all from one pass over the images: none (plain averages), hand-picked
    layers where some were published, each part alone, all. A model whose own rule for heads is the average gains
    nothing from "head", one without self-attention maps (Sana) nothing from "layer".

    Example: goca ablate --dataset scenes --limit 60
    """
    request = Request(dataset, root, split, protocol, threshold, captions, alignment, limit, seed, batch, out, resume)
    with clean_stdout():
        from goca.evaluation.baselines import ablation

        answer = run(
            request,
            ablation,
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
    finish(answer, ablation_table(answer), as_json)


def ablation_table(answer: dict[str, Any]) -> Table:
    """One row per combination, with a mark under each part that it has."""
    marks = {"none": ("", "", ""), "manual layers": ("", "manual", ""), "all": ("x", "x", "x")}
    table = Table("head", "layer", "rescale", "mIoU", "pixel acc.", "boundary IoU", "threshold", title=title(answer))
    for result in answer["results"]:
        name = result["preset"]
        parts = marks.get(name) or tuple("x" if part == name else "" for part in ("head", "layer", "rescale"))
        table.add_row(*parts, *figures(result))
    return table
