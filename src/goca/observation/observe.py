"""Explain one image file and write what comes out, after everything that can be refused has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

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
    """Explain the segmentation of an image file, and write JSON, ``.npz``, a page and pictures; all of them or none.

    Args:
        out: folder for the files, whose names start with the image's.
        caption, background, seed: see :meth:`goca.Segmenter.__call__`.
        at, layer, head, overwrite: see :meth:`goca.observation.Explanation.save`.
        records: also write ``STEM_records.npz``, see :class:`goca.observation.RecordFile`.

    Raises:
        ValueError: as of :meth:`goca.Segmenter.explain` and :meth:`goca.observation.Explanation.save`.
        OSError: the folder cannot be written to.
    """
    picture, stem = check_request(image, out, at, records, overwrite)
    folder = Path(out)
    check_drawn(segmenter, layer, head)
    with staged_folder(folder, overwrite=overwrite, stale=earlier_files(folder, stem)) as scratch:
        explanation = segmenter.explain(
            picture,
            classes,
            caption=caption,
            background=background,
            seed=seed,
            layers=None if layer is None else [layer],
            records=records_path(scratch, stem) if records else None,
        )
        written = explanation.save(scratch, stem, at=at, layer=layer, head=head)
    files = {what: folder / path.name for what, path in written.items()}
    return SavedExplanation(explanation, {**files, **({"records": records_path(folder, stem)} if records else {})})


def check_request(
    image: str | Path, out: str | Path, at: Sequence[tuple[int, int]], records: bool, overwrite: bool
) -> tuple[Image, str]:
    """What can be refused without the model; gives the image, and what the names of its files start with.

    Raises:
        ValueError: an image that cannot be read, or a pixel outside it.
        FileExistsError: files that are there already. OSError: the folder cannot be written to.
    """
    folder, (stem,) = Path(out), file_stems([str(image)])
    check_folder(folder)
    paths = [*explanation_paths(folder, stem).values(), *([records_path(folder, stem)] if records else [])]
    refuse_existing([*paths, *earlier_files(folder, stem)], overwrite, [image])
    picture = read_image(image)
    for x, y in at:
        check_pixel(x, y, picture.size)
    return picture, stem


def earlier_files(folder: Path, stem: str) -> list[Path]:
    """Pictures, and beside an explanation the records, of an earlier run."""
    there = [records_path(folder, stem)] if explanation_paths(folder, stem)["npz"].exists() else []
    return [*earlier_pictures(folder, stem), *(path for path in there if path.exists())]


def records_path(folder: Path, stem: str) -> Path:
    """Where the records are."""
    return folder / f"{stem}_records.npz"


def check_drawn(segmenter: Segmenter, layer: str | None, head: int | None) -> None:
    """Whether the layer, by default each that is aggregated, is there and has the head.

    Raises:
        ValueError: there is no such layer, the method does not aggregate it, or there is no such head.
    """
    backbone, chosen = segmenter.model.backbone, segmenter.resolve().cross_layers
    drawn = [each for each in backbone.layers if each in chosen]
    if layer is not None:
        drawn = [drawn[layer_index(drawn, layer)]]
    if head is not None:
        for each in drawn:
            check_head(each, head, backbone.count_heads(each))
