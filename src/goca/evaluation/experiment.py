"""Compare methods by their agreement with the true masks of a data set: what ``goca evaluate`` and ``goca ablate`` do.

For example::

    experiment = Experiment.open("scenes", limit=60)
    answer = experiment.run(Segmenter.from_pretrained(), find_methods(["vanilla", "paper"]))
    print([(result["preset"], result["miou"]) for result in answer["results"]])
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from goca.datasets import open_dataset
from goca.datasets.base import Dataset
from goca.datasets.published import PUBLISHED_KEYS
from goca.datasets.views import PublishedWords, Selection
from goca.evaluation.outputs import answer_files, check_out, records_file
from goca.evaluation.protocols import Protocol, adapt_to, find_protocol
from goca.evaluation.report import write_report
from goca.evaluation.runner import BATCH, Compute, count_images, evaluate
from goca.evaluation.summary import summarise
from goca.evaluation.task import CLASSES, MIGRATIONS, OWN, Task, configuration
from goca.lookup import look_up
from goca.messages import first_names
from goca.method import Method, ablation
from goca.models.specs import ModelSpec
from goca.ranges import check_limit, check_seed
from goca.segmenter import Segmenter
from goca.storage.atomic import write_atomically
from goca.storage.captions import check_captions, load_captions
from goca.storage.journal import Journal
from goca.text.align import Rule

DEFAULT_SCENES = 200


@dataclass(frozen=True)
class Captions:
    """The texts that name what is in each image.

    Attributes:
        source: as in :attr:`goca.evaluation.task.Task.captions`.
        file: where they come from.
        unused: names in the file that belong to none of the images.
        missing: images that the file leaves out.
    """

    source: str | dict[str, str]
    file: Path | None = None
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """Images, captions and rules of a comparison: all but the model and its methods. Made by :meth:`open`.

    Attributes:
        dataset: opened; by protocol ``paper`` with the published words, where there are any, and the images that the
            caption file names.
        options: what the data set's content depends on.
        protocol: adapted to the data set.
        captions: what the classes of each image are taken from.
        alignment: how captions are matched with classes, see :func:`goca.text.align.align`.
        count: how many images there are.
        seed: of the noise.
    """

    dataset: Dataset
    options: Mapping[str, Any]
    protocol: Protocol
    captions: Captions
    alignment: Rule
    count: int
    seed: int

    @property
    def words(self) -> str:
        """Whose names of the classes captions are aligned with: ``published``, or ``own`` for the data set's own."""
        return "published" if uses_published_words(self.protocol, self.dataset) else "own"

    @classmethod
    def open(
        cls,
        dataset: str = "scenes",
        *,
        root: str | Path | None = None,
        split: str | None = None,
        protocol: str = "standard",
        threshold: float | None = None,
        captions: str | None = None,
        alignment: str | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> Experiment:
        """Open a data set and read its captions.

        Args:
            dataset: a key of :data:`goca.datasets.DATASETS`.
            root: folder of its files.
            split: by default the protocol's.
            protocol: see :func:`goca.evaluation.protocols.find_protocol`.
            threshold: of the background, instead of the protocol's sweep or default.
            captions: a caption file, or ``"classes"``, the names of the classes in the target labels; by default the
                data set's own words, else ``"classes"``.
            alignment: a rule of :func:`goca.text.align.align`; by default ``published`` for protocol ``paper``, else
                ``exact``.
            limit: how many images; by default as many as the protocol takes, and 200 scenes.
            seed: series of scenes; of other data sets the seed of the noise (scenes have the seed 0).

        Raises:
            ValueError: an unknown name, a data set or caption file that is missing or damaged, a file none of whose
                captions belongs to an image, or, by protocol ``paper``, one that names an image which is not there.
        """
        check_seed(seed)
        check_limit(limit)
        rules = find_protocol(protocol, dataset, threshold)
        alignment = alignment or ("published" if rules.as_published else "exact")
        look_up(get_args(Rule), alignment, "alignment")
        drawn = dataset == "scenes"
        options: dict[str, Any] = {"seed": seed, "limit": limit or DEFAULT_SCENES} if drawn else {}
        opened = open_dataset(dataset, root=root, split=split or rules.split, **options)
        if uses_published_words(rules, opened):
            opened = PublishedWords(opened)
        texts = read_captions(captions, opened.names if rules.as_published else opened.names[:limit])
        if rules.as_published and texts.file is not None:
            opened, texts = select_named(opened, texts), replace(texts, missing=())
        limits = [each for each in (limit, rules.limit) if each is not None]
        count = count_images(opened, min(limits, default=None))
        return cls(
            opened,
            {"split": split or rules.split, **options},
            adapt_to(rules, opened),
            texts,
            cast(Rule, alignment),
            count,
            0 if drawn else seed,
        )

    def run(
        self,
        segmenter: Segmenter,
        methods: Mapping[str, Method],
        *,
        batch: int = BATCH,
        out: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        model_options: Mapping[str, str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        compute: Compute | None = None,
        command: str = "",
    ) -> dict[str, Any]:
        """Evaluate methods, all of them on the same recordings.

        Args:
            methods: by name, see :func:`goca.method.find_methods`.
            batch: images that are computed and written down together.
            out: folder for records.jsonl (a line for each image as it finishes), results.json and report.html.
            resume: continue the results in that folder.
            overwrite: replace the results in that folder.
            model_options: further settings of the model that the segmenter does not tell, such as its revision; a run
                with others is not continued.
            progress: gets (images done, images in all).
            compute: does the work elsewhere, see :func:`goca.evaluation.runner.evaluate`.
            command: what was called, for the report.

        Returns:
            ``dataset``, ``image_list`` (where the images' names come from), ``words`` (see :attr:`words`), ``model``,
            ``fast``, ``captions_without_image``, ``methods`` (each one's settings as they are on the model), ``notes``,
            ``settings``, and the entries of :func:`goca.evaluation.summary.summarise`.

        Raises:
            ValueError: a method that the model cannot run; results in the folder that are damaged, or of other
                settings, weights or images. OSError: see :func:`goca.evaluation.outputs.check_out`.
        """
        folder = None if out is None else Path(out)
        check_out(folder, resume, overwrite)
        spec = segmenter.model.spec
        resolved = {name: segmenter.resolve(method) for name, method in methods.items()}
        dataset, source = self.dataset, self.captions.source
        task = Task(
            dataset.classes, methods, self.protocol, source, self.alignment, self.seed, dataset.asks_for_synonyms
        )
        settings = {
            **configuration(
                segmenter, self.dataset, task, count=self.count, batch=batch, caption_file=self.captions.file
            ),
            "dataset options": dict(self.options),
            "model options": dict(model_options or {}),
        }
        with contextlib.ExitStack() as stack:
            journal = None
            if folder is not None:
                journal = Journal(
                    records_file(folder),
                    settings,
                    resume=resume,
                    overwrite=overwrite,
                    replaces=answer_files(folder),
                    migrations=MIGRATIONS,
                )
                stack.enter_context(journal)
            results = evaluate(
                segmenter,
                self.dataset,
                task,
                limit=self.count,
                batch=batch,
                journal=journal,
                progress=progress,
                compute=compute,
            )
        answer = {
            "dataset": self.dataset.key,
            "image_list": self.dataset.image_list,
            "words": self.words,
            "model": spec.name,
            "fast": segmenter.fast,
            "captions_without_image": len(self.captions.unused),
            "methods": {name: each.settings for name, each in resolved.items()},
            "notes": [
                *unknown_words(spec, task.class_names),
                *caption_notes(self.captions, self.count),
                *dict.fromkeys(note for each in resolved.values() for note in each.notes),
            ],
            **summarise(results, task),
            "settings": settings,
        }
        if folder is not None:
            results_path, report_path = answer_files(folder)
            write_atomically(results_path, json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
            write_report(report_path, answer, segmenter, self.dataset, task, results, command)
        return answer

    def ablate(self, segmenter: Segmenter, method: Method | None = None, **options: Any) -> dict[str, Any]:
        """What head aggregation, layer aggregation and rescaling add to plain averages, see
        :func:`goca.method.ablation`; otherwise as :meth:`run`."""
        return self.run(segmenter, ablation(segmenter.model.spec, method), **options)


def uses_published_words(protocol: Protocol, dataset: Dataset) -> bool:
    """Whether classes have the names that the published experiments gave them."""
    return protocol.as_published and dataset.key in PUBLISHED_KEYS


def read_captions(source: str | None, names: Sequence[str]) -> Captions:
    """The captions of these images.

    Args:
        source: as in :meth:`Experiment.open`.

    Raises:
        ValueError: a damaged file, or one without a caption for any image.
    """
    if source is None or source == CLASSES:
        return Captions(source or OWN)
    captions = load_captions(source)
    mismatch = check_captions(captions, names)
    if len(mismatch.missing) == len(names):
        raise ValueError(
            f"{source} has a caption for none of the {len(names)} images, which are called {first_names(names)}; "
            "give the captions of this data set and split"
        )
    return Captions(captions, Path(source), mismatch.unknown, mismatch.missing)


def select_named(dataset: Dataset, captions: Captions) -> Dataset:
    """The images that a caption file names: by protocol ``paper`` the file is the list.

    Raises:
        ValueError: an image that is not there.
    """
    assert captions.file is not None
    if captions.unused:
        raise ValueError(
            f"{captions.file} names {len(captions.unused)} images that {dataset.key} lacks ({dataset.image_list}): "
            f"{first_names(captions.unused)}; give the captions of this list, another --split, or the whole data set"
        )
    return Selection(dataset, captions.source, captions.file.name)


def caption_notes(captions: Captions, count: int) -> list[str]:
    """A sentence where a caption file and the images do not fit."""
    notes = []
    if captions.missing:
        notes.append(
            f"{captions.file} has no caption for {len(captions.missing)} of the {count} images: "
            f"{first_names(captions.missing)}; write them with goca caption, or leave the images out"
        )
    return notes


def unknown_words(spec: ModelSpec, names: Sequence[str]) -> list[str]:
    """A sentence where a model of few words has not seen some of the classes' names."""
    unknown = [] if spec.vocabulary is None else [name for name in names if name not in spec.vocabulary]
    if not unknown:
        return []
    return [f"{spec.name} has never seen the words {', '.join(unknown)}; take a big model, e.g. --model sd15"]
