"""Segment many image files: what is finished is on the disk, bad images are listed, and a killed run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from goca.export import DEFAULT_FORMATS, Exporter
from goca.export.registry import holds_many
from goca.image_texts import ImageText, texts_of
from goca.images import read_image
from goca.lookup import Names, read_names
from goca.maps.upsample import BILINEAR
from goca.messages import first_names
from goca.ranges import check_number, check_seed
from goca.result_store import ResultStore
from goca.segment_group import Compute, Outcome, Request
from goca.segment_run import FINISHED, JOURNAL, Progress, Run, SavedSegmentation, SavedSegmentations, relative
from goca.segmenter import Segmenter
from goca.storage.behind import Behind
from goca.storage.journal import Journal
from goca.storage.names import file_stems
from goca.storage.outputs import cannot_write
from goca.tiles import Tiles, check_resolution

__all__ = ["JOURNAL", "SavedSegmentation", "SavedSegmentations", "segment_many"]

SHOWN = 5  # names of images in a message


def segment_many(
    segmenter: Segmenter,
    images: str | Sequence[str],
    classes: Names | Mapping[str, ImageText],
    out: str | Path,
    *,
    caption: str | None = None,
    background: Names = (),
    threshold: float | None = None,
    seed: int = 0,
    ignore_below: float = 0.0,
    drop_absent: bool = False,
    tiles: Tiles | None = None,
    upsample: str = BILINEAR,
    batch_size: int | None = None,
    formats: Names = DEFAULT_FORMATS,
    overwrite: bool = False,
    resume: bool = False,
    compute: Compute | None = None,
    progress: Progress = lambda done, total: None,
) -> SavedSegmentations:
    """Segment image files; the files of a batch are written while the next batch is computed, and no more is held.

    An image that cannot be decoded, or whose own classes do not fit, is listed, and the others are done. With more than
    one image, ``segmentations.jsonl`` in the folder says what is finished, so that a run that was killed goes on; on
    one machine its files are the same, byte for byte, as long as an image has a forward of its own (``batch_size`` 1).

    Args:
        images: paths, or one path, see :func:`goca.image_files.find_images`; of images with the same name the second is
            written as ``NAME-2``.
        classes: of all images; or what is looked for in each, by name of the file or path, see
            :func:`goca.image_texts.read_texts`.
        out: folder for the files.
        caption, background, threshold, seed, ignore_below, drop_absent, tiles, upsample: see
            :meth:`goca.Segmenter.__call__`.
        batch_size: images that share a forward, see :meth:`goca.Segmenter.forward_batch`.
        formats: keys of :data:`goca.export.FORMATS`.
        overwrite: replace files that are there already, but for ``images``.
        resume: continue the run in the folder.
        compute: does the work elsewhere, such as :meth:`goca.distributed.cluster.Workers.segment_groups`; by default
            ``segmenter`` does it here.
        progress: gets (images done, images in all).

    Raises:
        ValueError: no image, a file that is not there, or all images fail; an unknown format; classes that do not fit
            the model, the caption or the images; a run with other settings to resume, or images that changed since.
        FileExistsError: a file is there already, and ``overwrite`` is not set; or it is one of ``images``.
        OSError: the folder cannot be written to.
    """
    images = [images] if isinstance(images, str) else list(images)
    if not images:
        raise ValueError("there is no image to segment; name one at least")
    if resume and overwrite:
        raise ValueError("resume continues a run and overwrite replaces it; leave out one of the two")
    size = segmenter.forward_batch(batch_size)
    texts = texts_of(images, classes) if isinstance(classes, Mapping) else [_text(classes, caption)] * len(images)
    names, out = read_names(formats, "format"), Path(out)
    check_number("ignore_below", ignore_below, 0.0, 1.0)
    check_resolution(tiles, upsample)
    background = read_names(background, "background")
    options = (threshold, check_seed(seed), ignore_below, drop_absent, tiles, upsample)
    request = Request(tuple(background), *options)
    run = Run(segmenter, images, texts, out, request, several=isinstance(classes, Mapping))
    run.check()
    parts = [name for name in names if not holds_many(name)], [name for name in names if holds_many(name)]
    with ExitStack() as stack:
        journal = None
        if len(images) > 1:
            settings = run.settings(names)
            journal = stack.enter_context(Journal(out / JOURNAL, settings, resume=resume, overwrite=overwrite))
        replace = overwrite or (journal is not None and journal.continued)
        single, shared = (Exporter(out, part, overwrite=replace, inputs=images) for part in parts)
        store = ResultStore(out) if parts[1] else None
        if store is not None and journal is None:
            stack.callback(store.remove)
        run.check_files([single, shared])
        done, whole_run = run.read(journal) if journal is not None else ({}, None)
        if whole_run is not None:
            return run.answer(done, whole_run)

        def write(outcomes: list[Outcome]) -> None:
            for entry, result in outcomes:
                if result is not None:
                    entry["files"] = relative(single.add(result, entry["stem"]), out)
            try:
                for entry, result in outcomes:
                    if store is not None and result is not None:
                        store.save(entry["stem"], result)
                if journal is not None:
                    journal.append([entry for entry, _ in outcomes])
            except OSError as error:
                raise cannot_write(out, error) from error
            done.update((entry["index"], entry) for entry, _ in outcomes)

        todo = [index for index in range(len(images)) if index not in done]
        missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        if journal is not None and not journal.continued:
            start(journal, out)
        try:
            with Behind(write) as behind:
                for outcomes in run.work(todo, size, compute, progress):
                    behind(outcomes)
        except (ValueError, OSError, MemoryError) as error:
            finished = [images[index] for index in sorted(done) if done[index]["error"] is None]
            if not finished:
                if journal is not None:
                    withdraw(journal, missing)
                raise
            raise cut_short(error, finished, len(images), out) from error
        failures = [str(done[index]["error"]) for index in sorted(done) if done[index]["error"] is not None]
        if len(failures) == len(images):
            raise ValueError(failures[0] if len(images) == 1 else f"no image could be segmented: {failures[0]}")
        last: dict[str, Any] = {"index": FINISHED, "files": {}, "image_files": {}}
        if store is not None:
            for index in sorted(done):
                stem = run.stems[index]
                if done[index]["error"] is None:
                    files = shared.add(store.load(stem, read_image(images[index])).with_colours(run.colours), stem)
                    last["image_files"][str(index)] = relative(files, out)
            last["files"] = relative(shared.finish(), out)
        if not failures:
            if journal is not None:
                journal.append([last])
            if store is not None:
                store.remove()
        return run.answer(done, last)


def start(journal: Journal, out: Path) -> None:
    """Write the head of a journal, so that files without a line are known to be the run's own.

    Raises:
        OSError: the folder cannot be written to.
    """
    try:
        journal.append([])
    except OSError as error:
        raise cannot_write(out, error) from error


def withdraw(journal: Journal, missing: Sequence[Path]) -> None:
    """Remove the journal of a run that wrote nothing else, and the folders that the run made."""
    if not journal.continued and [*journal.path.parent.iterdir()] == [journal.path]:
        journal.close()
        journal.path.unlink()
        for folder in missing:
            folder.rmdir()


def check_outputs(images: Sequence[str], out: Path, formats: Names = DEFAULT_FORMATS) -> None:
    """Refuse early, before it is known what is looked for, what a new run over the images would replace.

    Raises:
        FileExistsError, ValueError: as of :func:`segment_many`.
    """
    if len(images) > 1:
        Journal(out / JOURNAL, {}).close()
    Exporter(out, formats, inputs=images).check({stem: () for stem in file_stems(images)})


def cut_short(error: Exception, done: Sequence[str], count: int, out: Path) -> Exception:
    """The error of a run that stopped after some images, with their names."""
    names = first_names(done, SHOWN)
    kind = next(kind for kind in (ValueError, OSError, MemoryError) if isinstance(error, kind))
    reason = " ".join(str(error).split())
    return kind(f"{reason} ({len(done)} of {count} images are whole in {out}: {names}; go on with --resume)")


def _text(classes: Names, caption: str | None) -> ImageText:
    return ImageText(tuple(read_names(classes, "class")), caption)
