"""Segment many image files: what is finished is on the disk, bad images are listed, and a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from goca.classes import BACKGROUND
from goca.export import DEFAULT_FORMATS, Exporter
from goca.export.registry import holds_many
from goca.image_texts import ImageText, texts_of
from goca.images import read_image
from goca.lookup import Names, read_names
from goca.messages import sentence
from goca.models.fingerprint import fingerprint
from goca.ranges import check_seed, check_whole
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.storage.digest import file_digest, json_digest
from goca.storage.fields import check_keys, text, whole
from goca.storage.journal import Journal
from goca.storage.names import file_stems
from goca.storage.results import ResultStore
from goca.types import Prompt

JOURNAL = "segmentations.jsonl"
SHOWN = 5  # names of images in a message
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SavedSegmentation:
    """What is known of an image whose segmentation has been written.

    Attributes:
        image: its path.
        areas: share of the pixels by class; they sum to 1.
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
    batch_size: int | None = None,
    formats: Names = DEFAULT_FORMATS,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
) -> SavedSegmentations:
    """Segment image files and write each result before the next batch; one batch is held in memory.

    An image that cannot be read, or whose classes do not fit, is listed, and the others are done. With more than one
    image, ``segmentations.jsonl`` in the folder says what is finished, so that a run that was killed goes on; on one
    machine its files are the same, byte for byte, as long as an image has a forward of its own (``batch_size`` 1).

    Args:
        images: paths, or one path, see :func:`goca.image_files.find_images`; of images with the same name the second is
            written as ``NAME-2``.
        classes: of all images; or what is looked for in each, by name of the file or path, see
            :func:`goca.image_texts.read_texts`.
        out: folder for the files.
        caption, background, threshold, seed: see :meth:`goca.Segmenter.__call__`.
        batch_size: images that share a forward; 1 on a CPU and 8 elsewhere by default.
        formats: keys of :data:`goca.export.FORMATS`.
        overwrite: replace files that are there already, but for ``images``.
        resume: continue the run in the folder.
        progress: gets (images done, images in all).

    Raises:
        ValueError: no image, or all of them fail; an unknown format; classes that do not fit the model, the caption or
            the images; a run with other settings to resume, or images that changed since.
        FileExistsError: a file is there already, and ``overwrite`` is not set; or it is one of ``images``.
        OSError: the folder cannot be written to.
    """
    images = [images] if isinstance(images, str) else list(images)
    if not images:
        raise ValueError("there is no image to segment; name one at least")
    if resume and overwrite:
        raise ValueError("resume continues a run and overwrite replaces it; leave out one of the two")
    size = segmenter.default_batch if batch_size is None else check_whole("batch_size", batch_size, 1)
    texts = texts_of(images, classes) if isinstance(classes, Mapping) else [_text(classes, caption)] * len(images)
    names, out = read_names(formats, "format"), Path(out)
    run = _Run(segmenter, images, texts, out, read_names(background, "background"), threshold, check_seed(seed))
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
        run.check_files([single, shared])
        done = {} if journal is None else run.read(journal)
        try:
            for entries, results in run.work(done, size, progress):
                for entry, result in zip(entries, results, strict=True):
                    if result is None:
                        continue
                    files = single.add(result, entry["stem"])
                    entry["files"] = {key: str(path.relative_to(out)) for key, path in files.items()}
                    if store is not None:
                        store.save(entry["stem"], result)
                if journal is not None:
                    journal.append(entries)
                done |= {entry["index"]: entry for entry in entries}
        except (ValueError, OSError, MemoryError) as error:
            finished = [images[index] for index, entry in sorted(done.items()) if entry["error"] is None]
            if not finished:
                raise
            raise cut_short(error, finished, len(images), out) from error
        saved = [each for _, entry in sorted(done.items()) if (each := _saved(images, entry, out)) is not None]
        failures = tuple(
            (images[index], str(entry["error"])) for index, entry in sorted(done.items()) if entry["error"]
        )
        if not saved:
            raise ValueError(failures[0][1] if len(images) == 1 else f"no image could be segmented: {failures[0][1]}")
        if store is not None:
            for index, entry in sorted(done.items()):
                if entry["error"] is None:
                    files = shared.add(store.load(entry["stem"], read_image(images[index])), entry["stem"])
                    next(each for each in saved if each.image == images[index]).files.update(files)
        files = shared.finish() if store is not None else {}
        if store is not None:
            store.remove()
    return SavedSegmentations(tuple(saved), files, failures)


def cut_short(error: Exception, done: Sequence[str], count: int, out: Path) -> Exception:
    """The error of a run that stopped after some images, with their names."""
    names = ", ".join(done[:SHOWN]) + (" ..." if len(done) > SHOWN else "")
    kind = next(kind for kind in (ValueError, OSError, MemoryError) if isinstance(error, kind))
    return kind(f"{' '.join(str(error).split())} ({len(done)} of {count} images are whole in {out}: {names})")


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

    @property
    def stems(self) -> list[str]:
        return file_stems(self.images)

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
            "background": self.background,
            "formats": list(formats),
            "images": len(self.images),
            "list of images": json_digest(self.images),
            "classes and captions": json_digest(asked),
        }

    def check(self, several: bool) -> None:
        """Refuse early classes that fit no image; those of single images (``several``) are refused in their turn."""
        self.segmenter.resolve(None, self.threshold)
        if not several:
            self.prompt(0)

    def prompt(self, index: int) -> Prompt:
        """The prompt of one image."""
        wanted = self.texts[index]
        return self.segmenter.prompt(wanted.classes, caption=wanted.caption, background=self.background)

    def check_files(self, exporters: Sequence[Exporter]) -> None:
        """Refuse early what would replace a file."""
        for stem, each in zip(self.stems, self.texts, strict=True):
            names = [name.split("|")[0].strip() for name in each.classes]
            for exporter in exporters:
                exporter.check([stem], [*names, BACKGROUND])

    def read(self, journal: Journal) -> dict[int, dict[str, Any]]:
        """The finished images of a run that is continued.

        Raises:
            ValueError: a damaged line, or an image that changed.
        """
        entries = journal.read(self._read_entry)
        return {entry["index"]: entry for entry in entries if entry["error"] is None}

    def work(
        self, done: Mapping[int, Any], size: int, progress: Progress
    ) -> Iterator[tuple[list[dict[str, Any]], list[Segmentation | None]]]:
        """Batches of lines for the journal, each with its result; ``None`` where an image failed."""
        method = self.segmenter.resolve(None, self.threshold)
        todo, prompts = [index for index in range(len(self.images)) if index not in done], dict[ImageText, Prompt]()
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
                except (ValueError, OSError) as error:
                    entry |= {"error": sentence(error), "digest": ""}
                else:
                    pictures.append(picture)
                    texts.append(prompts[self.texts[index]])
                entries.append(entry)
            results = iter(self.segmenter.segment_batch(pictures, texts, method, self.seed) if pictures else [])
            paired = [next(results) if entry["error"] is None else None for entry in entries]
            for entry, result in zip(entries, paired, strict=True):
                if result is not None:
                    entry |= {"areas": result.areas, "notes": list(result.notes)}
            yield entries, paired
        progress(len(self.images), len(self.images))

    def _read_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        index = whole(entry, "index", 0, len(self.images) - 1)
        if entry.get("error") is not None:
            check_keys(entry, ("index", "image", "stem", "error", "digest"))
            return {"index": index, "error": text(entry, "error")}
        check_keys(entry, ("index", "image", "stem", "error", "digest", "areas", "notes", "files"))
        if (entry["image"], entry["stem"]) != (self.images[index], self.stems[index]):
            raise ValueError(f"{entry['image']!r} is not image {index} of this run")
        if file_digest(Path(self.images[index])) != entry["digest"]:
            raise ValueError(f"the image {entry['image']} has changed since")
        return entry


def _text(classes: Names, caption: str | None) -> ImageText:
    return ImageText(tuple(read_names(classes, "class")), caption)


def _saved(images: Sequence[str], entry: Mapping[str, Any], out: Path) -> SavedSegmentation | None:
    if entry["error"] is not None:
        return None
    files = {key: out / path for key, path in entry["files"].items()}
    return SavedSegmentation(images[entry["index"]], dict(entry["areas"]), files, tuple(entry["notes"]))
