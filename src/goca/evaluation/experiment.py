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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from goca.datasets import open_dataset
from goca.datasets.base import Dataset
from goca.evaluation.protocols import Protocol, adapt_to, find_protocol
from goca.evaluation.report import write_report
from goca.evaluation.runner import BATCH, Compute, count_images, evaluate
from goca.evaluation.summary import summarise
from goca.evaluation.task import CLASSES, MIGRATIONS, OWN, Task, configuration
from goca.lookup import look_up
from goca.method import Method, ablation, check
from goca.models.specs import ModelSpec
from goca.segmenter import Segmenter
from goca.storage.atomic import check_folder, write_atomically
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
        unused: how many of the file's captions belong to none of the images.
    """

    source: str | dict[str, str]
    file: Path | None = None
    unused: int = 0


@dataclass(frozen=True)
class Experiment:
    """Images, captions and rules of a comparison: all but the model and its methods. Made by :meth:`open`.

    Attributes:
        dataset: opened.
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
        alignment: str = "exact",
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
            alignment: a rule of :func:`goca.text.align.align`.
            limit: how many images; by default all, and 200 scenes.
            seed: series of scenes; of other data sets the seed of the noise (scenes have the seed 0).

        Raises:
            ValueError: an unknown name, a data set or caption file that is missing or damaged, or none of whose
                captions belongs to an image.
        """
        look_up(get_args(Rule), alignment, "alignment")
        rules = find_protocol(protocol, dataset, threshold)
        drawn = dataset == "scenes"
        options: dict[str, Any] = {"seed": seed, "limit": limit or DEFAULT_SCENES} if drawn else {}
        opened = open_dataset(dataset, root=root, split=split or rules.split, **options)
        count = count_images(opened, limit)
        return cls(
            opened,
            {"split": split or rules.split, **options},
            adapt_to(rules, opened),
            read_captions(captions, opened.names[:count]),
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
        model_options: Mapping[str, str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        compute: Compute | None = None,
    ) -> dict[str, Any]:
        """Evaluate methods, all of them on the same recordings.

        Args:
            methods: by name, see :func:`goca.method.find_methods`.
            batch: images that are computed and written down together.
            out: folder for records.jsonl (a line for each image as it finishes), results.json and report.html.
            resume: continue the records in that folder.
            model_options: further settings of the model that the segmenter does not tell, such as its revision; a run
                with others is not continued.
            progress: gets (images done, images in all).
            compute: does the work elsewhere, see :func:`goca.evaluation.runner.evaluate`.

        Returns:
            ``dataset``, ``model``, ``fast``, ``captions_without_image``, ``notes``, ``settings``, and the entries of
            :func:`goca.evaluation.summary.summarise`.

        Raises:
            ValueError: a method that the model cannot run, or results of other settings in the folder.
            OSError: the folder cannot be written to.
        """
        folder = None if out is None else Path(out)
        check_out(folder, resume)
        spec = segmenter.model.spec
        for method in methods.values():
            check(method, spec, type(segmenter.model.backbone))
        task = Task(self.dataset.classes, methods, self.protocol, self.captions.source, self.alignment, self.seed)
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
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / "records.jsonl"
                journal = stack.enter_context(Journal(path, settings, resume=resume, migrations=MIGRATIONS))
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
            "model": spec.name,
            "fast": segmenter.fast,
            "captions_without_image": self.captions.unused,
            "notes": unknown_words(spec, task.class_names),
            **summarise(results, task),
            "settings": settings,
        }
        if folder is not None:
            write_atomically(folder / "results.json", json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
            write_report(folder / "report.html", answer, segmenter, self.dataset, task, results)
        return answer

    def ablate(self, segmenter: Segmenter, **options: Any) -> dict[str, Any]:
        """What head aggregation, layer aggregation and rescaling add, see
        :func:`goca.method.ablation`; otherwise as :meth:`run`."""
        return self.run(segmenter, ablation(segmenter.model.spec), **options)


def check_out(out: Path | None, resume: bool) -> None:
    """Raise ``ValueError`` where nothing is there to resume, ``OSError`` where the folder cannot be one."""
    if resume and out is None:
        raise ValueError("--resume continues the results of a folder; name it with --out")
    if out is not None:
        check_folder(out)


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
        raise ValueError(f"{source} has a caption for none of the {len(names)} images, which are called {names[0]} ...")
    return Captions(captions, Path(source), len(mismatch.unknown))


def unknown_words(spec: ModelSpec, names: Sequence[str]) -> list[str]:
    """A sentence where a model of few words has not seen some of the classes' names."""
    unknown = [] if spec.vocabulary is None else [name for name in names if name not in spec.vocabulary]
    if not unknown:
        return []
    return [f"{spec.name} has never seen the words {', '.join(unknown)}; take a big model, e.g. --model sd15"]
