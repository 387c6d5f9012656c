"""Segment many image files: what is finished is on the disk, bad images are listed, and a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL.Image import Image

from goca.absence import CAPTIONED
from goca.classes import BACKGROUND
from goca.export import DEFAULT_FORMATS, Exporter
from goca.export.registry import holds_many
from goca.image_texts import ImageText, texts_of
from goca.images import check_there, read_image
from goca.lookup import Names, read_names
from goca.maps.upsample import BILINEAR
from goca.messages import first_names, sentence
from goca.models.fingerprint import fingerprint
from goca.ranges import check_number, check_seed
from goca.render import Colour, run_colours
from goca.result import Segmentation
from goca.result_store import ResultStore
from goca.segmenter import Segmenter
from goca.storage.behind import Behind
from goca.storage.digest import file_digest, json_digest
from goca.storage.fields import check_keys, number, text, whole
from goca.storage.journal import Entry, Journal
from goca.storage.names import file_stems
from goca.storage.outputs import cannot_write
from goca.tiles import Tiles, check_resolution
from goca.types import Prompt

JOURNAL = "segmentations.jsonl"
SHOWN = 5  # names of images in a message
FINISHED = -1  # number of the line that ends a run
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SavedSegmentation:
    """What is known of an image whose segmentation has been written.

    Attributes:
        image: its path.
        areas: share of the pixels by class; they sum to 1, less what is ignored.
        files: paths by what they hold, see :class:`goca.export.Exporter`.
        notes: sentences that the user should read.
    """

    image: str
    areas: dict[str, float]
    files: dict[str, Path]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SavedSegmentations:
    """The segmentations of some images, the files that hold all of them, and (image, reason) of those that failed."""

    images: tuple[SavedSegmentation, ...]
    files: dict[str, Path]
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def notes(self) -> list[str]:
        """The notes of all images, each once."""
        return list(dict.fromkeys(note for each in self.images for note in each.notes))


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
    options = (background, threshold, check_seed(seed), ignore_below, drop_absent, tiles, upsample)
    run = _Run(segmenter, images, texts, out, *options)
    run.check(several=isinstance(classes, Mapping))
    parts = [name for name in names if not holds_many(name)], [name for name in names if holds_many(name)]
    with ExitStack() as stack:
        journal = None
        if len(images) > 1:
            settings = run.settings(names)
            journal = stack.enter_context(Journal(out / JOURNAL, settings, resume=resume, overwrite=overwrite))
        replace = overwrite or bool(journal and journal.entries)
        single, shared = (Exporter(out, part, overwrite=replace, inputs=images) for part in parts)
        store = ResultStore(out) if parts[1] else None
        if store is not None and journal is None:
            stack.callback(store.remove)
        run.check_files([single, shared])
        done, whole_run = run.read(journal) if journal is not None else ({}, None)
        if whole_run is not None:
            return run.answer(done, whole_run)

        def write(entries: list[Entry], results: list[Segmentation | None]) -> None:
            for entry, result in zip(entries, results, strict=True):
                if result is not None:
                    entry["files"] = relative(single.add(result, entry["stem"]), out)
            try:
                for entry, result in zip(entries, results, strict=True):
                    if store is not None and result is not None:
                        store.save(entry["stem"], result)
                if journal is not None:
                    journal.append(entries)
            except OSError as error:
                raise cannot_write(out, error) from error
            done.update((entry["index"], entry) for entry in entries)

        todo = [index for index in range(len(images)) if index not in done]
        try:
            with Behind(write) as behind:
                for entries, results in run.work(todo, size, progress):
                    behind(entries, results)
        except (ValueError, OSError, MemoryError) as error:
            finished = [images[index] for index in sorted(done) if done[index]["error"] is None]
            if not finished:
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


def relative(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The paths seen from the folder."""
    return {key: path.relative_to(folder).as_posix() for key, path in files.items()}


def cut_short(error: Exception, done: Sequence[str], count: int, out: Path) -> Exception:
    """The error of a run that stopped after some images, with their names."""
    names = first_names(done, SHOWN)
    kind = next(kind for kind in (ValueError, OSError, MemoryError) if isinstance(error, kind))
    reason = " ".join(str(error).split())
    return kind(f"{reason} ({len(done)} of {count} images are whole in {out}: {names}; go on with --resume)")


@dataclass(frozen=True)
class _Run:
    """What one run depends on."""

    segmenter: Segmenter
    images: list[str]
    texts: list[ImageText]
    out: Path
    background: list[str]
    threshold: float | None
    seed: int
    ignore_below: float
    drop_absent: bool
    tiles: Tiles | None
    upsample: str

    @cached_property
    def stems(self) -> list[str]:
        """What the names of each image's files begin with."""
        return file_stems(self.images)

    @cached_property
    def colours(self) -> dict[str, Colour]:
        """One for each class of any image, and for the background."""
        return run_colours([*(each.names for each in self.texts), [BACKGROUND]])

    def settings(self, formats: Sequence[str]) -> dict[str, Any]:
        """What the results depend on, as JSON."""
        segmenter = self.segmenter
        asked = [[each.classes, each.caption] for each in self.texts]
        return {
            "model": segmenter.model.spec.name,
            "weights": fingerprint(segmenter.model.pipeline),
            "method": segmenter.resolve(None, self.threshold).settings,
            "fast": segmenter.fast,
            "size": segmenter.model.spec.image_size,
            "keep_aspect": segmenter.keep_aspect,
            "seed": self.seed,
            "ignore_below": self.ignore_below,
            "drop_absent": self.drop_absent,
            "calibration": None if self.segmenter.calibration is None else self.segmenter.calibration.to_json(),
            "tiles": self.tiles,
            "upsample": self.upsample,
            "background": self.background,
            "formats": list(formats),
            "images": len(self.images),
            "list of images": json_digest(self.images),
            "classes and captions": json_digest(asked),
        }

    def check(self, several: bool) -> None:
        """Refuse early files that are not there, and classes that fit no image; those of single images (``several``)
        are refused in their turn."""
        self.segmenter.resolve(None, self.threshold)
        if self.drop_absent and any(each.caption is not None for each in self.texts):
            raise ValueError(CAPTIONED)
        check_there(self.images)
        if not several:
            self.prompt(0)

    def prompt(self, index: int) -> Prompt:
        """The prompt of one image."""
        wanted = self.texts[index]
        return self.segmenter.prompt(wanted.classes, caption=wanted.caption, background=self.background)

    def check_files(self, exporters: Sequence[Exporter]) -> None:
        """Refuse early what would replace a file."""
        results = {stem: [*each.names, BACKGROUND] for stem, each in zip(self.stems, self.texts, strict=True)}
        for exporter in exporters:
            exporter.check(results)

    def read(self, journal: Journal) -> tuple[dict[int, Entry], Entry | None]:
        """The finished images of a run that is continued, by number, and the line that ends it, if it is there.

        Raises:
            ValueError: a damaged line, or an image that changed.
        """
        entries = journal.read(self._read_entry)
        last = next((entry for entry in entries if entry["index"] == FINISHED), None)
        return {entry["index"]: entry for entry in entries if entry.get("error", "") is None}, last

    def answer(self, done: Mapping[int, Entry], last: Entry) -> SavedSegmentations:
        """What the lines of a run say."""
        saved = []
        for index, entry in sorted(done.items()):
            if entry["error"] is None:
                files = {**entry["files"], **last["image_files"].get(str(index), {})}
                paths = {key: self.out / path for key, path in files.items()}
                saved.append(SavedSegmentation(self.images[index], entry["areas"], paths, tuple(entry["notes"])))
        failed = ((index, entry["error"]) for index, entry in sorted(done.items()) if entry["error"] is not None)
        failures = tuple((self.images[index], reason) for index, reason in failed)
        return SavedSegmentations(tuple(saved), {key: self.out / path for key, path in last["files"].items()}, failures)

    def work(
        self, todo: Sequence[int], size: int, progress: Progress
    ) -> Iterator[tuple[list[Entry], list[Segmentation | None]]]:
        """Batches of lines for the journal, each with its result; ``None`` where an image failed."""
        method = self.segmenter.resolve(None, self.threshold)
        prompts = dict[ImageText, Prompt]()
        finished = len(self.images) - len(todo)
        for start in range(0, len(todo), size):
            progress(finished + start, len(self.images))
            entries, pictures, texts = [], list[Image](), list[Prompt]()
            for index in todo[start : start + size]:
                entry = {"index": index, "image": self.images[index], "stem": self.stems[index], "error": None}
                try:
                    picture = read_image(self.images[index])
                    entry["digest"] = file_digest(Path(self.images[index]))
                    if self.texts[index] not in prompts:
                        prompts[self.texts[index]] = self.prompt(index)
                    if self.tiles is not None:
                        self.segmenter.tile_plan(picture, self.tiles)
                except (ValueError, OSError) as error:
                    entry |= {"error": sentence(error), "digest": ""}
                else:
                    pictures.append(picture)
                    texts.append(prompts[self.texts[index]])
                entries.append(entry)
            options = (self.seed, self.ignore_below, self.drop_absent, self.tiles, self.upsample)
            results = iter(self.segmenter.segment_batch(pictures, texts, method, *options) if texts else [])
            paired = [next(results).with_colours(self.colours) if entry["error"] is None else None for entry in entries]
            for entry, result in zip(entries, paired, strict=True):
                if result is not None:
                    entry |= {"areas": result.areas, "notes": list(result.notes)}
            yield entries, paired
        progress(len(self.images), len(self.images))

    def _read_entry(self, entry: Entry) -> Entry:
        index = whole(entry, "index", FINISHED, len(self.images) - 1)
        if index == FINISHED:
            check_keys(entry, ("index", "files", "image_files"))
            for files in (entry["files"], *entry["image_files"].values()):
                self._check_files(files)
            return entry
        if entry.get("error") is not None:
            check_keys(entry, ("index", "image", "stem", "error", "digest"))
            return {"index": index, "error": text(entry, "error")}
        check_keys(entry, ("index", "image", "stem", "error", "digest", "areas", "notes", "files"))
        if (entry["image"], entry["stem"]) != (self.images[index], self.stems[index]):
            raise ValueError(f"{entry['image']!r} is not image {index} of this run")
        if file_digest(Path(self.images[index])) != entry["digest"]:
            raise ValueError(f"the image {entry['image']} has changed since")
        for name in entry["areas"]:
            number(entry["areas"], name, 0.0, 1.0)
        if not all(isinstance(note, str) for note in entry["notes"]):
            raise ValueError("'notes' are no texts")
        self._check_files(entry["files"])
        return entry

    def _check_files(self, files: Mapping[str, str]) -> None:
        missing = next((path for path in files.values() if not (self.out / path).is_file()), None)
        if missing is not None:
            raise ValueError(f"the file {missing} is not there any more")


def _text(classes: Names, caption: str | None) -> ImageText:
    return ImageText(tuple(read_names(classes, "class")), caption)
