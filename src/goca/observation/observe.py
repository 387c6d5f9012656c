"""Explain one image file and write what comes out, after everything that can be refused has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from goca.images import read_image
from goca.lookup import Names
from goca.observation.explanation import Explanation
from goca.observation.files import earlier_pictures, explanation_paths
from goca.observation.layers import check_head, layer_index
from goca.observation.pixels import check_pixel
from goca.storage.atomic import staged_folder
from goca.storage.names import file_stems
from goca.storage.outputs import check_folder, refuse_existing

if TYPE_CHECKING:
    from goca.segmenter import Segmenter


@dataclass(frozen=True)
class SavedExplanation:
    """An explanation and the paths of its files by what they hold."""

    explanation: Explanation
    files: dict[str, Path]


def observe(
    segmenter: Segmenter,
    image: str | Path,
    classes: Names,
    out: str | Path,
    *,
    caption: str | None = None,
    background: Names = (),
    seed: int = 0,
    at: Sequence[tuple[int, int]] = (),
    layer: str | None = None,
    head: int | None = None,
    records: bool = False,
    overwrite: bool = False,
) -> SavedExplanation:
    """Explain the segmentation of an image file, and write JSON, ``.npz`` and pictures; all of them or none.

    Args:
        out: folder for the files, whose names start with the image's.
        caption, background, seed: see :meth:`goca.Segmenter.__call__`.
        at, layer, head, overwrite: see :meth:`goca.observation.Explanation.save`.
        records: also write ``STEM_records.npz``, see :class:`goca.observation.RecordFile`.

    Raises:
        ValueError: as of :meth:`goca.Segmenter.explain` and :meth:`goca.observation.Explanation.save`.
        OSError: the folder cannot be written to.
    """
    folder, stem = check_output(out, image, records, overwrite)
    picture = read_image(image)
    for x, y in at:
        check_pixel(x, y, picture.size)
    layers = None if layer is None else [check_layer(segmenter, layer)]
    if head is not None:
        check_heads(segmenter, head, layers)
    with staged_folder(folder, overwrite=overwrite, stale=earlier_files(folder, stem)) as scratch:
        explanation = segmenter.explain(
            picture,
            classes,
            caption=caption,
            background=background,
            seed=seed,
            layers=layers,
            records=records_path(scratch, stem) if records else None,
        )
        written = explanation.save(scratch, stem, at=at, layer=layer, head=head)
    files = {what: folder / path.name for what, path in written.items()}
    return SavedExplanation(explanation, {**files, **({"records": records_path(folder, stem)} if records else {})})


def check_output(out: str | Path, image: str | Path, records: bool, overwrite: bool) -> tuple[Path, str]:
    """The folder, and what its files' names start with.

    Raises:
        FileExistsError: they are there already. OSError: the folder cannot be written to.
    """
    folder, (stem,) = Path(out), file_stems([str(image)])
    check_folder(folder)
    paths = [*explanation_paths(folder, stem).values(), *([records_path(folder, stem)] if records else [])]
    refuse_existing([*paths, *earlier_files(folder, stem)], overwrite, [image])
    return folder, stem


def earlier_files(folder: Path, stem: str) -> list[Path]:
    """Pictures, and beside an explanation the records, of an earlier run."""
    there = [records_path(folder, stem)] if explanation_paths(folder, stem)["npz"].exists() else []
    return [*earlier_pictures(folder, stem), *(path for path in there if path.exists())]


def records_path(folder: Path, stem: str) -> Path:
    """Where the records are."""
    return folder / f"{stem}_records.npz"


def check_layer(segmenter: Segmenter, layer: str) -> str:
    """The name of an aggregated layer.

    Raises:
        ValueError: there is no such layer, or the method does not aggregate it.
    """
    observed = observed_layers(segmenter)
    return observed[layer_index(observed, layer)]


def check_heads(segmenter: Segmenter, head: int, layers: Sequence[str] | None) -> None:
    """Raise ``ValueError`` for a head that one of the layers, by default of all that are aggregated, does not have."""
    for layer in layers or observed_layers(segmenter):
        check_head(layer, head, segmenter.model.backbone.count_heads(layer))


def observed_layers(segmenter: Segmenter) -> list[str]:
    """Names of the layers that the segmenter's method aggregates, in forward order."""
    chosen = segmenter.resolve().cross_layers
    return [layer for layer in segmenter.model.backbone.layers if layer in chosen]
