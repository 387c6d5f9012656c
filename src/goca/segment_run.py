"""One run over many images: what it depends on, its groups, and the lines of its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from goca.absence import CAPTIONED
from goca.classes import BACKGROUND
from goca.export import Exporter
from goca.image_texts import ImageText
from goca.images import check_there
from goca.models.fingerprint import fingerprint
from goca.render import Colour, run_colours
from goca.result import Segmentation
from goca.segment_group import Compute, GroupSegmenter, Item, Outcome, Request
from goca.segmenter import Segmenter
from goca.storage.digest import file_digest, json_digest
from goca.storage.fields import check_keys, number, text, whole
from goca.storage.journal import Entry, Journal
from goca.storage.names import file_stems

JOURNAL = "segmentations.jsonl"
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


@dataclass(frozen=True)
class Run:
    """What one run over many images depends on, and what its journal says.

    Attributes:
        texts: what is looked for in each image; the same in all of them unless ``several``.
        late: images of which that became known after the run had begun; :meth:`read` adds them.
    """

    segmenter: Segmenter
    images: list[str]
    texts: list[ImageText]
    out: Path
    request: Request
    several: bool
    late: set[int] = field(default_factory=set)

    @cached_property
    def here(self) -> GroupSegmenter:
        """Does the work in this process."""
        return GroupSegmenter(self.segmenter, self.request)

    @cached_property
    def stems(self) -> list[str]:
        """What the names of each image's files begin with."""
        return file_stems(self.images)

    @cached_property
    def colours(self) -> dict[str, Colour]:
        """One for each class of any image, and for the background. Classes that became known in a run that is continued
        come last, so that they change no colour of the files that are there."""
        order = sorted(range(len(self.texts)), key=self.late.__contains__)
        return run_colours([*(self.texts[index].names for index in order), [BACKGROUND]])

    def settings(self, formats: Sequence[str]) -> dict[str, Any]:
        """What the results depend on, as JSON."""
        segmenter, request = self.segmenter, self.request
        return {
            "model": segmenter.model.spec.name,
            "weights": fingerprint(segmenter.model.pipeline),
            "method": segmenter.resolve(None, request.threshold).settings,
            "fast": segmenter.fast,
            "size": segmenter.model.spec.image_size,
            "keep_aspect": segmenter.keep_aspect,
            "seed": request.seed,
            "ignore_below": request.ignore_below,
            "drop_absent": request.drop_absent,
            "calibration": None if segmenter.calibration is None else segmenter.calibration.to_json(),
            "tiles": request.tiles,
            "upsample": request.upsample,
            "background": list(request.background),
            "formats": list(formats),
            "images": len(self.images),
            "list of images": json_digest(self.images),
            "classes and captions": "each image's own" if self.several else self.text_digest(0),
        }

    def text_digest(self, index: int) -> str:
        """Of what is looked for in one image."""
        wanted = self.texts[index]
        return json_digest([wanted.classes, wanted.caption])

    def check(self) -> None:
        """Refuse early files that are not there, and classes that fit no image; those of single images are refused in
        their turn."""
        if self.request.drop_absent and any(each.caption is not None for each in self.texts):
            raise ValueError(CAPTIONED)
        check_there(self.images)
        if not self.several:
            self.here.prompt(self.texts[0])

    def item(self, index: int) -> Item:
        """What is to be done with one image."""
        return Item(index, self.images[index], self.stems[index], self.texts[index])

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
        self, todo: Sequence[int], size: int, compute: Compute | None, progress: Progress
    ) -> Iterator[list[Outcome]]:
        """The outcomes of groups of images, as they are finished."""
        groups = [[self.item(index) for index in todo[start : start + size]] for start in range(0, len(todo), size)]
        finished = len(self.images) - len(todo)
        progress(finished, len(self.images))
        for outcomes in map(self.here, groups) if compute is None else compute(groups, self.request):
            for entry, _ in outcomes:
                entry["text"] = self.text_digest(entry["index"])
            yield [
                (entry, result if result is None else result.with_colours(self.colours)) for entry, result in outcomes
            ]
            finished += len(outcomes)
            progress(finished, len(self.images))

    def finish(self, entry: Entry, result: Segmentation | None) -> Outcome:
        """What a group has found out of one image, with what the whole run knows."""
        entry["text"] = self.text_digest(entry["index"])
        return entry, None if result is None else result.with_colours(self.colours)

    def _read_entry(self, entry: Entry) -> Entry:
        index = whole(entry, "index", FINISHED, len(self.images) - 1)
        if index == FINISHED:
            check_keys(entry, ("index", "files", "image_files"))
            for files in (entry["files"], *entry["image_files"].values()):
                self._check_files(files)
            return entry
        if entry.get("error") is not None:
            check_keys(entry, ("index", "image", "stem", "error", "digest", "text"))
            if entry["text"] != self.text_digest(index):
                self.late.add(index)
            return {"index": index, "error": text(entry, "error")}
        check_keys(entry, ("index", "image", "stem", "error", "digest", "text", "areas", "notes", "files"))
        if (entry["image"], entry["stem"]) != (self.images[index], self.stems[index]):
            raise ValueError(f"{entry['image']!r} is not image {index} of this run")
        if file_digest(Path(self.images[index])) != entry["digest"]:
            raise ValueError(f"the image {entry['image']} has changed since")
        if entry["text"] != self.text_digest(index):
            raise ValueError(f"what is looked for in {entry['image']} has changed since")
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


def relative(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The paths seen from the folder."""
    return {key: path.relative_to(folder).as_posix() for key, path in files.items()}
