"""The table of guidance: how good, how faithful to the prompt and how well segmented are the images of each setting?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goca.evaluation.generation.measures import Measures
from goca.evaluation.generation.photographs import PhotoMeasures
from goca.evaluation.generation.scenes import SceneMeasures
from goca.evaluation.generation.statistics import draw_counts, interval
from goca.evaluation.generation.table import BASE, markdown
from goca.guidance.generate import Generator
from goca.models.fingerprint import fingerprint
from goca.models.specs import ModelSpec
from goca.ranges import LARGEST_SCALE, check_seed, check_whole
from goca.segmenter import Segmenter
from goca.storage.atomic import remove_leftovers, write_atomically
from goca.storage.digest import file_digest
from goca.storage.fields import number, optional_text, text, whole
from goca.storage.journal import UNKNOWN, Entry, Journal
from goca.storage.outputs import check_folder, refuse_existing
from goca.storage.png import write_png

Progress = Callable[[int, int], None]
RECORDS, ANSWERS = "records.jsonl", ("results.json", "table.md")
KEYS = ("index", "guidance", "scale", "image")  # of an entry, beside its measurements


@dataclass(frozen=True)
class Plan:
    """Settings whose images are compared.

    Attributes:
        guidance: its kinds.
        scales: of each.
        steps: of the denoiser, the pipeline's own number by default.
        noise_seed: of every image; by default the number of its prompt.
    """

    guidance: tuple[str, ...]
    scales: tuple[float, ...]
    steps: int | None = None
    noise_seed: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the images depend on; what is left to its default came later and is left out."""
        return {name: value for name, value in vars(self).items() if name != "noise_seed" or value is not None}


def compare_guidance(
    segmenter: Segmenter,
    plan: Plan,
    out: str | Path,
    *,
    prompts: int = 48,
    seed: int = 31,
    photos: Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Draw the same prompts in every setting and measure the images: what ``goca guidance-table`` does.

    The same call goes on where it was stopped. Writes ``images/``, ``records.jsonl``, ``results.json`` and
    ``table.md``.

    Args:
        prompts: how many.
        seed: series of the scenes whose captions are the prompts.
        photos: folder with ``images/`` and ``captions.json``, for models of photographs.
        overwrite: replace the table and the measurements in the folder.
        progress: gets (images done, images in all).

    Returns:
        the settings, and the entries of :func:`summarise`.

    Raises:
        ValueError: see :func:`choose_measures` and :func:`run`. FileExistsError: results that no earlier run wrote, and
            ``overwrite`` is not set. OSError: the folder cannot be written to.
    """
    check_seed(seed)
    check_whole("the number of prompts", prompts, 2)
    folder = Path(out)
    check_folder(folder)
    remove_leftovers(folder, folder.parent)
    if photos is not None and folder.resolve() == photos.resolve():
        raise FileExistsError(f"{folder} is the folder of the photographs; choose another --out")
    if not (folder / RECORDS).exists():
        refuse_existing([folder / name for name in ANSWERS], overwrite)
    measures = choose_measures(segmenter.model.spec, photos, folder, prompts, seed)
    answer = run(segmenter, measures, plan, folder, progress, overwrite=overwrite)
    for name, content in zip(ANSWERS, (json.dumps(answer, indent=2) + "\n", markdown(answer)), strict=True):
        write_atomically(folder / name, content)
    return answer


def choose_measures(spec: ModelSpec, photos: Path | None, folder: Path, prompts: int, seed: int) -> Measures:
    """Those of scenes for embedded models, those of photographs for the others.

    Raises:
        ValueError: photographs for an embedded model, none for another.
    """
    if (spec.vocabulary is None) != (photos is not None):
        raise ValueError(
            f"{spec.name} draws scenes, which are judged without --photos; leave it out"
            if photos
            else f"{spec.name} draws photographs, which the judge of scenes does not know; "
            "give a folder with images/ and captions.json with --photos"
        )
    return SceneMeasures(folder, prompts, seed) if photos is None else PhotoMeasures(photos, prompts)


def run(
    segmenter: Segmenter,
    measures: Measures,
    plan: Plan,
    folder: Path,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw what is missing in the folder, measure it, and summarise.

    Every image and its measurements are on the disk before the next one is drawn: ``images/GUIDANCE-SCALE/`` and
    ``records.jsonl``.

    Args:
        progress: gets (images done, images in all).

    Returns:
        see :func:`summarise`.

    Raises:
        ValueError: the folder is of a run with other settings or weights, or holds anything damaged; or see
            :class:`Generator`.
    """
    makers = {
        (kind, scale): Generator(segmenter, kind, scale=scale, steps=plan.steps)
        for scale in plan.scales
        for kind in plan.guidance
    }
    weights = fingerprint(segmenter.model.pipeline)
    config = {"model": segmenter.model.spec.name, "weights": weights, **plan.settings, **measures.settings}

    def read(entry: Entry) -> tuple[tuple[str, float, int], Entry]:
        index = whole(entry, "index", 0, len(measures.prompts) - 1)
        kind, scale = text(entry, "guidance"), number(entry, "scale", 0.0, float(LARGEST_SCALE))
        if (kind, scale) not in makers:
            raise ValueError(f"the setting {kind}, {scale} is none of this table")
        picture, measured = optional_text(entry, "image"), {k: v for k, v in entry.items() if k not in KEYS}
        measures.check(index, measured)
        path = image_path(folder, kind, scale, index)
        if picture is not None and path.exists() and file_digest(path) != picture:
            raise ValueError(f"{path} has changed since it was measured")
        return (kind, scale, index), entry

    with Journal(
        folder / RECORDS,
        config,
        resume=not overwrite,
        overwrite=overwrite,
        replaces=[folder / name for name in ANSWERS],
        migrations=[add_weights],
    ) as journal:
        entries = {key: entry for key, entry in journal.read(read) if image_path(folder, *key).exists()}
        for index, prompt in enumerate(measures.prompts):
            for (kind, scale), make in makers.items():
                if (kind, scale, index) in entries:
                    continue
                progress(len(entries), len(makers) * len(measures.prompts))
                seed = index if plan.noise_seed is None else plan.noise_seed
                result = make(prompt, seed, classes=measures.things(index))
                path = image_path(folder, kind, scale, index)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_png(result.image, path, prompt=prompt, seed=str(seed))
                picture = file_digest(path)
                place = {"index": index, "guidance": kind, "scale": scale, "image": picture}
                entry = {**place, **measures.measure(index, result)}
                journal.append([entry])
                entries[kind, scale, index] = entry
    return {**config, **summarise(measures, entries, plan, folder)}


def add_weights(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of format 1 with what format 2 compares besides."""
    return {**config, "weights": UNKNOWN}


def image_path(folder: Path, guidance: str, scale: float, index: int) -> Path:
    """Where an image lies."""
    return folder / "images" / f"{guidance}-{str(scale).removesuffix('.0')}" / f"{index:05d}.png"


def summarise(
    measures: Measures, entries: dict[tuple[str, float, int], Entry], plan: Plan, folder: Path
) -> dict[str, Any]:
    """Every measure with a 95% interval from drawing the prompts anew, 1,000 times and alike for all settings.

    Returns:
        ``columns``; ``real``, the measures of real images (or none); ``results``, per setting its measures and under
        ``difference`` those minus plain guidance's at the same scale (none for that itself). An interval is
        ``{"value", "low", "high"}``.
    """
    count = len(measures.prompts)
    counts = draw_counts(count)
    values = {
        (kind, scale): measures.values(
            [entries[kind, scale, index] for index in range(count)],
            [image_path(folder, kind, scale, index) for index in range(count)],
            counts,
        )
        for scale in plan.scales
        for kind in plan.guidance
    }
    results = []
    for (kind, scale), each in values.items():
        base = values.get((BASE, scale)) if kind != BASE else None
        numbers: dict[str, Any] = {key: interval(sets) for key, sets in each.items()}
        numbers["difference"] = base and {key: interval(each[key] - base[key]) for key in each}
        results.append({"guidance": kind, "scale": scale, "images": count, **numbers})
    real_values = measures.real(counts)
    return {
        "columns": measures.columns,
        "real": None if real_values is None else {key: interval(sets) for key, sets in real_values.items()},
        "results": results,
    }
