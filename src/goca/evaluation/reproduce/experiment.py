"""Measure what data and checkpoints allow, and set it beside what the paper reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goca.datasets import DATASETS
from goca.evaluation.experiment import Experiment
from goca.evaluation.generation.experiment import Plan, choose_measures
from goca.evaluation.generation.experiment import run as run_generation
from goca.evaluation.generation.measures import Measures
from goca.evaluation.reproduce import at_hand
from goca.evaluation.reproduce.at_hand import COCO_30K, SCENES, Missing
from goca.evaluation.reproduce.reported import (
    GENERATION_PROMPTS,
    GENERATION_SCALE,
    GENERATION_SEED,
    GENERATION_STEPS,
    TABLES,
)
from goca.evaluation.reproduce.table import Cell, Table, to_csv, to_html, to_latex
from goca.guidance.generate import GUIDANCE
from goca.lookup import Names, look_up, read_names
from goca.messages import visible
from goca.method import Method, ablation, find_methods
from goca.models.loading import find_source, wrap
from goca.models.specs import MODELS, ModelSpec
from goca.ranges import check_limit
from goca.segmenter import Segmenter
from goca.storage.atomic import write_atomically
from goca.storage.captions import load_captions
from goca.storage.names import file_names
from goca.storage.outputs import check_folder

SCENE_PROMPTS, SCENE_SERIES = 48, 31
SHARES = ("object_recall", "mask_miou")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is asked for, see :func:`reproduce`; experiments that are open already are kept by their data set."""

    root: Path | None
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    limit: int | None
    out: Path
    load: Callable[[str], Segmenter]
    progress: Progress
    opened: dict[str, Experiment] = field(default_factory=dict)

    def experiment(self, key: str) -> Experiment:
        """The data set of that key; see :func:`goca.evaluation.reproduce.at_hand.open_experiment`."""
        if key not in self.opened:
            self.opened[key] = at_hand.open_experiment(key, self.root, self.limit)
        return self.opened[key]

    def segmenter(self, name: str) -> Segmenter:
        """The model of that name, with the settings of that name.

        Raises:
            Missing: its weights are not at hand, incomplete or of another kind, or do not fit the device. ValueError:
                nothing has that name.
        """
        source = at_hand.find_checkpoint(name, self.root)
        try:
            segmenter = self.load(source)
        except (OSError, MemoryError) as error:
            raise Missing(f"{name}: {error}") from error
        if source == name:
            return segmenter
        kind = type(segmenter.model.pipeline).__name__
        if kind not in MODELS[name].pipelines:
            raise Missing(f"{name}: {source} holds a {kind}, not a {MODELS[name].pipelines[0]}; put {name} there")
        return Segmenter(wrap(name, segmenter.model.pipeline))

    def folder(self, table: str, *parts: str) -> Path:
        """Where the records of a run lie."""
        return self.out / table / file_names(["-".join(parts)])[0]


@dataclass
class Findings:
    """What is found for a table, as it grows."""

    cells: list[Cell] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: bool = False


def reproduce(
    tables: Names = tuple(TABLES),
    *,
    root: str | Path | None = None,
    models: Names | None = None,
    datasets: Names | None = None,
    limit: int | None = None,
    out: str | Path = "goca-reproduce",
    load: Callable[[str], Segmenter] = Segmenter.from_pretrained,
    progress: Progress = lambda done, total: None,
) -> list[Table]:
    """Measure the paper's tables by its protocol, as far as data and checkpoints are at hand.

    The same call goes on where it was stopped. Writes ``TABLE.csv``, ``TABLE.tex``, ``TABLE.html`` and ``TABLE.json``,
    and the records of each run in a folder of its own, ``TABLE/MODEL-DATASET``.

    Args:
        tables: keys of :data:`goca.evaluation.reproduce.reported.TABLES`.
        root: folder with the data, see :func:`goca.evaluation.reproduce.at_hand.open_experiment`.
        models: names, hub ids or local folders; by default the paper's.
        datasets: of the tables of mIoU; by default the paper's, and ``scenes`` for embedded models.
        limit: most images (prompts) of each run; by default the paper's, 200 scenes and 48 prompts of scenes.
        out: folder for all of it.
        load: from a model's name to its segmenter.
        progress: gets (images done, images in all) of each run.

    Returns:
        the tables, with what was missing.

    Raises:
        ValueError: an unknown name, nothing at hand for any table, captions that do not fit their data set, or a folder
            with results of other settings. OSError: the folder cannot be written to.
    """
    tables = list(dict.fromkeys(read_names(tables, "table")))
    datasets, models = read_names(datasets or (), "data set"), read_names(models or (), "model")
    for name in tables:
        look_up(TABLES, name, "table")
    if datasets and tables == ["generation"]:
        raise ValueError(
            "generation is measured on photographs, or on scenes for embedded models; leave --datasets out"
        )
    for key in datasets:
        look_up(DATASETS, key, "data set")
    for name in models:
        find_source(name)
    check_limit(limit)
    if root is not None and not Path(root).is_dir():
        raise ValueError(f"there is no folder {root}; name the folder of the data sets with --root")
    folder = Path(out)
    check_folder(folder)
    data = None if root is None else Path(root)
    request = Request(data, tuple(models), tuple(datasets), limit, folder, load, progress)
    found = []
    for name in tables:
        found.append(measure_table(name, request))
        if found[-1].measured:
            write_table(folder, found[-1])
    if not any(table.measured or table.failed for table in found):
        reasons = list(dict.fromkeys(reason for table in found for reason in table.missing))
        names = ", ".join(reason.partition(":")[0] for reason in reasons)
        raise ValueError(
            f"nothing is at hand for {' or '.join(tables)} (missing: {names}); get what is missing, see "
            f"docs/reproduce.md, or measure embedded models with --models scenes-dit; first, {reasons[0]}"
        )
    for table in found:
        if not table.measured:
            write_table(folder, table)
    return found


def measure_table(name: str, request: Request) -> Table:
    """One table, as far as it can be measured."""
    published, found = TABLES[name], Findings()
    for model in request.models or published.models:
        if name == "generation":
            measure_generation(model, request, found)
        else:
            measure_miou(name, model, request, found)
    if request.limit is not None and any(cell.reported is not None for cell in found.cells):
        found.notes.append(f"measured on at most {request.limit} images, the reported numbers on all")
    return Table(
        name,
        published.title,
        tuple(found.cells),
        tuple(dict.fromkeys(map(plain_line, found.missing))),
        tuple(dict.fromkeys(map(plain_line, found.notes))),
        found.failed,
    )


def plain_line(text: str) -> str:
    """A sentence on one line, which a comment in LaTeX has to be, without control characters."""
    return visible(" ".join(text.split()))


def measure_miou(name: str, model: str, request: Request, found: Findings) -> None:
    """The rows of one model in a table of mIoU."""
    datasets = request.datasets or ((SCENES,) if is_embedded(model) else TABLES[name].datasets)
    experiments: dict[str, Experiment] = {}
    numbers: dict[tuple[str, str], dict[str, Any]] = {}
    for key in datasets:
        try:
            experiments[key] = request.experiment(key)
        except Missing as error:
            found.missing.append(str(error))
    try:
        if not experiments:
            at_hand.find_checkpoint(model, request.root)
        else:
            segmenter = request.segmenter(model)
            methods = rows_of(name, segmenter.model.spec)
            for key, experiment in experiments.items():
                folder = request.folder(name, model, key)
                answer = experiment.run(segmenter, methods, out=folder, resume=True, progress=request.progress)
                numbers |= {(result["preset"], key): result for result in answer["results"] if result["images"]}
                add_notes(answer, found)
    except Missing as error:
        found.missing.append(str(error))
    except MemoryError as error:
        found.missing.append(f"{model}: {error}")
    reported = TABLES[name].numbers
    rows = dict.fromkeys([row for row, _ in numbers] + [row for row, owner, _ in reported if owner == model])
    for row in rows:
        for key in datasets:
            value, own = reported.get((row, model, key)), numbers.get((row, key))
            if own is not None:
                low, high = own["interval"] or (None, None)
                cell = Cell(row, model, key, value, own["miou"], low, high, own["images"])
                found.cells.append(cell.times(100.0))
            elif value is not None:
                found.cells.append(Cell(row, model, key, value))


def rows_of(name: str, spec: ModelSpec) -> dict[str, Method]:
    """The methods that a table compares on a model."""
    if name == "ablation":
        return ablation(spec)
    return find_methods(["vanilla", *(["fttm"] if spec.manual_layers else []), "paper"])


def add_notes(answer: Mapping[str, Any], found: Findings) -> None:
    """What a reader should know of a run."""
    start = f"{answer['model']} on {answer['dataset']}: "
    found.notes += [start + note for note in answer["notes"]]
    if answer["failures"]:
        first = answer["failures"][0]
        found.failed = True
        found.notes.append(f"{start}{len(answer['failures'])} images failed, first {first['image']}: {first['reason']}")


def measure_generation(model: str, request: Request, found: Findings) -> None:
    """The rows of one model in the table of generation."""
    reported = TABLES["generation"].numbers
    results: list[dict[str, Any]] = []
    columns = list(dict.fromkeys(column for _, _, column in reported))
    try:
        photos = None if is_embedded(model) else at_hand.find_photographs(request.root)
        segmenter = request.segmenter(model)
        folder = request.folder("generation", model, SCENES if photos is None else COCO_30K)
        folder.mkdir(parents=True, exist_ok=True)
        measures = find_measures(segmenter.model.spec, photos, folder, request.limit)
        seed = None if photos is None else GENERATION_SEED
        plan = Plan(tuple(GUIDANCE), (GENERATION_SCALE,), GENERATION_STEPS.get(model), seed)
        results = run_generation(segmenter, measures, plan, folder, request.progress)["results"]
        columns = list(measures.columns)
    except Missing as error:
        found.missing.append(str(error))
    except MemoryError as error:
        found.missing.append(f"{model}: {error}")
    own = {result["guidance"]: result for result in results}
    for kind in GUIDANCE:
        for column in columns:
            value = reported.get((kind, model, column))
            if kind in own:
                measured = own[kind][column]
                cell = Cell(
                    kind,
                    model,
                    column,
                    value,
                    measured["value"],
                    measured["low"],
                    measured["high"],
                    own[kind]["images"],
                )
                found.cells.append(cell.times(100.0 if column in SHARES else 1.0))
            elif value is not None:
                found.cells.append(Cell(kind, model, column, value))


def find_measures(spec: ModelSpec, photos: Path | None, folder: Path, limit: int | None) -> Measures:
    """What is measured of the images, and of how many.

    Raises:
        Missing: what measures them is not installed, or too few photographs. ValueError: too few prompts.
    """
    if photos is None:
        return choose_measures(spec, None, folder, limit or SCENE_PROMPTS, SCENE_SERIES)
    prompts = min(limit or GENERATION_PROMPTS, GENERATION_PROMPTS, len(load_captions(photos / "captions.json")))
    try:
        return choose_measures(spec, photos, folder, prompts, SCENE_SERIES)
    except ValueError as error:
        raise Missing(f"{COCO_30K}: {error}") from error


def is_embedded(model: str) -> bool:
    """Whether a model knows scenes alone."""
    return model in MODELS and MODELS[model].vocabulary is not None


def write_table(folder: Path, table: Table) -> None:
    """Write one table in every format."""
    texts = {
        "csv": to_csv(table),
        "tex": to_latex(table),
        "html": to_html([table]),
        "json": json.dumps(table.to_json(), indent=1, ensure_ascii=False) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_atomically(folder / f"{table.name}.{suffix}", text)
