"""Segment a video frame by frame: masks as videos, or as files of every frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goca.export import Exporter
from goca.lookup import Names, read_names
from goca.render import Colour
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.storage.atomic import remove_leftovers, staged_folder, write_atomically
from goca.storage.outputs import refuse_existing
from goca.video.reading import Frame, read_frames
from goca.video.writing import MaskVideos, mask_files

VIDEO = "video"  # the format that is no format of single images


@dataclass(frozen=True)
class SavedVideo:
    """What is known of a video whose masks have been written.

    Attributes:
        frames: how many were segmented.
        areas: mean share of the pixels by class.
        files: paths of the files that hold all frames.
        notes: sentences that the user should read.
    """

    frames: int
    areas: dict[str, float]
    files: dict[str, Path]
    notes: tuple[str, ...]


def segment_video(
    segmenter: Segmenter,
    path: str | Path,
    classes: Names,
    out: str | Path,
    *,
    every: int = 1,
    temporal: float = 0.0,
    formats: Names = (VIDEO,),
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> SavedVideo:
    """Segment the frames of a video; a batch of them is held in memory.

    All frames get the same noise, so that labels change where the picture does.

    Args:
        path: of the video, see :func:`goca.video.reading.read_frames`.
        out: folder for the files.
        every: take the first frame and every so-many-th after it.
        temporal: weight in [0, 0.99] of the frames before, see :class:`goca.maps.temporal.TemporalAverage`.
        formats: ``video``: the labels without loss (``STEM_labels.mkv``, grey values), the frames under their classes'
            colours (``STEM_overlay.mp4``), and ``STEM.json`` with classes, colours, and each frame's time and areas;
            and keys of :data:`goca.export.FORMATS`, whose files are named by the frame's number, ``STEM-000000``.
        overwrite: replace files that are there already, but never the video.
        progress: gets the number of frames done twice, as their number in all is not known before.
        options: of :meth:`goca.Segmenter.stream`: caption, background, threshold, batch_size, seed, ignore_below.

    Raises:
        ValueError: a video that cannot be decoded; an unknown format, or one that cannot hold the result; classes that
            do not fit.
        FileExistsError: a file is there already, and ``overwrite`` is not set.
        OSError: the folder cannot be written to.
    """
    names, folder, stem = read_names(formats, "format"), Path(out), Path(path).stem
    single = [name for name in names if name != VIDEO]
    exporter = Exporter(folder, single, overwrite=overwrite, inputs=[path])
    frames = read_frames(path, every)
    results = _results(segmenter, frames, classes, temporal, options)
    with ExitStack() as stack:
        writer = None
        if VIDEO in names:
            planned = [*mask_files(folder, stem).values(), folder / f"{stem}.json"]
            refuse_existing(planned, overwrite, [path])
            remove_leftovers(folder, folder.parent)
            scratch = stack.enter_context(staged_folder(folder, overwrite=overwrite))
            writer = stack.enter_context(MaskVideos(scratch, stem))
        report = _Report()
        for frame, result in results:
            if writer is not None:
                writer.add(frame, result)
            if single:
                exporter.add(result, f"{stem}-{frame.index:06d}")
            report.add(frame, result)
            progress(report.count, report.count)
        files = exporter.finish() if single else {}
        if writer is not None:
            write_atomically(scratch / f"{stem}.json", json.dumps(report.content, ensure_ascii=False) + "\n")
            files |= {**mask_files(folder, stem), "json": folder / f"{stem}.json"}
    return SavedVideo(report.count, report.areas, files, tuple(report.notes))


def _results(
    segmenter: Segmenter, frames: Iterator[Frame], classes: Names, temporal: float, options: dict[str, Any]
) -> Iterator[tuple[Frame, Segmentation]]:
    """Frames with their results; the frames of a batch wait here until it is done."""
    waiting: list[Frame] = []

    def images() -> Iterator[Any]:
        for frame in frames:
            waiting.append(frame)
            yield frame.image

    for result in segmenter.stream(images(), classes, temporal=temporal, **options):
        yield waiting.pop(0), result


class _Report:
    """What all frames have come to."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.classes: tuple[str, ...] = ()
        self.colours: tuple[Colour, ...] = ()
        self.notes: dict[str, None] = {}

    def add(self, frame: Frame, result: Segmentation) -> None:
        """Take a frame with its result."""
        self.classes, self.colours = result.classes, result.colours
        self.notes |= dict.fromkeys(result.notes)
        self.frames.append({"index": frame.index, "time": round(frame.time, 6), "areas": result.areas})

    @property
    def count(self) -> int:
        """How many frames."""
        return len(self.frames)

    @property
    def areas(self) -> dict[str, float]:
        """Mean share of the pixels by class."""
        return {name: sum(each["areas"][name] for each in self.frames) / self.count for name in self.classes}

    @property
    def content(self) -> dict[str, Any]:
        """As JSON."""
        colours = zip(self.classes, self.colours, strict=True)
        classes = [{"name": name, "index": index, "colour": colour} for index, (name, colour) in enumerate(colours)]
        return {"classes": classes, "frames": self.frames, "notes": list(self.notes)}
