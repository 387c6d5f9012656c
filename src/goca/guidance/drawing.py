"""Draw one prompt, or a table of prompts, and write everything that belongs to it into a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from goca.classes import BACKGROUND
from goca.explorer import payload, save_page
from goca.export import Exporter
from goca.export.pictures import earlier_heat_maps
from goca.guidance.generate import GUIDANCE, Generation, Generator, name_things
from goca.guidance.sheet import CAPTIONS, sheet
from goca.guidance.table import DatasetFolder, Row
from goca.lookup import Names, read_names
from goca.method import find_method
from goca.models.fingerprint import fingerprint
from goca.storage.atomic import remove_leftovers, staged_folder, write_atomically
from goca.storage.names import file_names
from goca.storage.outputs import refuse_existing
from goca.storage.png import read_texts, write_png
from goca.text.prompt import mentioned_classes, read_entry

Progress = Callable[[int, int], None]
ENDINGS = {
    "image": ".png",
    "caption": ".txt",
    "masks": "_masks.png",
    "compare": "_compare.png",
    "page": "_compare.html",
}


@dataclass(frozen=True)
class DrawnPrompt:
    """One prompt and what was written of it.

    Attributes:
        result: the image by the chosen guidance.
        classes: what was segmented, if anything.
        files: paths by what they hold: ``image``; with a segmentation those of :meth:`goca.Segmentation.save` and
            ``caption``; ``masks`` and ``compare`` where they were asked for; ``page``, the explorer, where the
            images of a comparison were segmented.
    """

    result: Generation
    classes: tuple[str, ...] | None
    files: dict[str, Path]


@dataclass(frozen=True)
class DrawnTable:
    """What became of a table of prompts.

    Attributes:
        drawn: images drawn now.
        skipped: images that were there already.
        bad: a sentence for each row that was left out, in the order of the lines.
        notes: sentences that the user should read.
    """

    drawn: int
    skipped: int
    bad: tuple[str, ...]
    notes: tuple[str, ...]


def draw_prompt(
    make: Generator,
    prompt: str,
    seed: int,
    out: str | Path,
    *,
    segment: bool = False,
    classes: Names | None = None,
    show_masks: bool = False,
    compare: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> DrawnPrompt:
    """Draw one prompt and write ``PROMPT-SEED.png`` and the files that were asked for, all of them or none.

    PROMPT is the beginning of the prompt; where another prompt or somebody else has that file, it becomes
    ``PROMPT-SEED-2.png`` and so on.

    Args:
        segment: segment the image too.
        classes: into what; by default what the prompt names.
        show_masks: draw regions and rates of the steps.
        compare: draw the prompt with every guidance, under each other; where they are segmented, also in the explorer.
        overwrite: replace what was drawn of this prompt with this seed before.
        progress: gets (images done, images in all).

    Raises:
        ValueError: see :class:`Generator` and :func:`goca.guidance.generate.name_things`.
        FileExistsError: it was drawn before, and ``overwrite`` is not set. OSError: the folder cannot be written to.
    """
    out = Path(out)
    classes = None if classes is None else read_names(classes, "class")
    things = (classes or name_things(prompt, make.segmenter.model.spec.vocabulary)) if segment else None
    stem = choose_stem(out, prompt, seed)
    earlier = earlier_drawing(out, stem)
    segmented = things is not None
    asked = {"image": True, "caption": segmented, "masks": show_masks, "compare": compare}
    asked["page"] = compare and segmented
    names = {key: stem + ENDINGS[key] for key in ENDINGS if asked[key]}
    refuse_existing([*earlier, *(out / name for name in names.values())], overwrite)
    if things is not None:
        expected = [*(read_entry(entry).name for entry in things), BACKGROUND]
        Exporter(out, overwrite=overwrite).check({stem: expected})
    remove_leftovers(out, out.parent)
    kinds = list(GUIDANCE) if compare else [make.guidance]
    results: dict[str, Generation] = {}
    for done, kind in enumerate(kinds):
        progress(done, len(kinds))
        maker = make if kind == make.guidance else make.like(kind)
        results[kind] = maker(prompt, seed, classes=things, trace=show_masks or compare)
    result = results[make.guidance]
    with staged_folder(out, overwrite=overwrite, stale=earlier) as scratch:
        files = {key: scratch / name for key, name in names.items()}
        write_png(result.image, files["image"], prompt=prompt, seed=str(seed))
        if result.segmentation is not None:
            files |= result.segmentation.save(scratch, stem)
            write_atomically(files["caption"], prompt + "\n")
        for key, shown in (("masks", [result]), ("compare", list(results.values()))):
            if key in files:
                write_png(sheet(shown), files[key])
        if "page" in files:
            save_page(files["page"], compare_page(make, results))
    files = {key: out / path.name for key, path in files.items()}
    return DrawnPrompt(result, None if things is None else tuple(things), files)


def compare_page(make: Generator, results: Mapping[str, Generation]) -> dict[str, Any]:
    """The explorer's data about one prompt by every guidance, the chosen one first."""
    chosen = results[make.guidance]
    order = [make.guidance, *(kind for kind in results if kind != make.guidance)]
    segmentations = {CAPTIONS[kind]: results[kind].segmentation for kind in order}
    facts = [("model", make.segmenter.model.spec.name), ("seed", str(chosen.seed)), ("scale", f"{make.scale:g}")]
    return payload(
        {name: each for name, each in segmentations.items() if each is not None}, title=chosen.prompt, facts=facts
    )


def choose_stem(out: Path, prompt: str, seed: int) -> str:
    """``PROMPT-SEED``, with a number from 2 on where that picture is of another prompt, or not from goca."""
    base = f"{file_names([prompt])[0]}-{seed}"
    for stem in chain([base], (f"{base}-{number}" for number in count(2))):
        path = out / f"{stem}.png"
        texts = read_texts(path)
        if not path.exists() or (texts.get("prompt"), texts.get("seed")) == (prompt, str(seed)):
            return stem
    raise AssertionError("stems have no end")


def earlier_drawing(out: Path, stem: str) -> list[Path]:
    """What an earlier run wrote beside ``STEM.png``; files of other origin are left out."""
    endings = (".png", "_masks.png", "_compare.png", "_labels.png", "_overlay.png")
    found = [path for ending in endings if read_texts(path := out / f"{stem}{ending}")]
    labelled = out / f"{stem}_labels.png" in found
    texts = [path for ending in (".json", ".txt") if labelled and (path := out / f"{stem}{ending}").exists()]
    if out / f"{stem}_compare.png" in found and (page := out / f"{stem}_compare.html").exists():
        texts.append(page)
    return [*found, *texts, *earlier_heat_maps(out, stem)]


def draw_table(
    make: Generator,
    rows: Sequence[Row],
    out: str | Path,
    *,
    segment: bool = False,
    classes: Names | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> DrawnTable:
    """Draw the rows whose images are not there yet, and write the data set, see :class:`DatasetFolder`.

    Every image is on the disk before the next one is drawn; the same call goes on after an interruption.

    Args:
        rows: see :func:`goca.guidance.table.read_rows`; those that cannot be drawn are left out.
        segment: write labels and annotations too.
        classes: of all labels; by default each row's are what its prompt names.
        overwrite: replace the data set of an earlier run.
        progress: gets (images done, images in all).

    Raises:
        ValueError, FileExistsError: see :class:`DatasetFolder`. OSError: the folder cannot be written to.
    """
    out = Path(out)
    classes = None if classes is None else read_names(classes, "class")
    things, bad = plan_classes(make, rows, segment, classes)
    good = [row for row in rows if row.name in things]
    named = {name: [read_entry(entry).name for entry in entries or ()] for name, entries in things.items()}
    folder_classes = [read_entry(entry).name for entry in classes or ()] or [
        name for row in good for name in named[row.name]
    ]
    if make.segmenter.method.threshold is not None:
        folder_classes.insert(0, BACKGROUND)
    settings = describe_run(make, segment, classes)
    folder = DatasetFolder(out, settings, folder_classes if segment else None, overwrite=overwrite)
    captions = {row.name: ", ".join(named[row.name] or (row.prompt,)) for row in good}
    folder.check_captions(captions)
    finished: list[Row] = []
    missing: list[Row] = []
    for row in good:
        try:
            (finished if folder.has(row) else missing).append(row)
        except ValueError as error:
            bad[row.line] = str(error)
    skipped, notes = len(finished), dict[str, None]()
    try:
        for row in missing:
            progress(len(finished), skipped + len(missing))
            result = make(row.prompt, row.seed, classes=things[row.name])
            folder.add(row, result)
            notes |= dict.fromkeys(result.notes)
            finished.append(row)
    finally:
        folder.finish({row.name: captions[row.name] for row in sorted(finished, key=lambda row: row.line)})
    sentences = tuple(f"line {line}: {' '.join(bad[line].split())}" for line in sorted(bad))
    return DrawnTable(len(missing), skipped, sentences, tuple(notes))


def plan_classes(
    make: Generator, rows: Sequence[Row], segment: bool, classes: Sequence[str] | None
) -> tuple[dict[str, list[str] | None], dict[int, str]]:
    """What is segmented in the image of each row that can be drawn, by its name, and why the others cannot, by their
    line."""
    vocabulary = make.segmenter.model.spec.vocabulary
    things: dict[str, list[str] | None] = {}
    bad: dict[int, str] = {}
    for row in rows:
        try:
            found = None
            if segment:
                found = mentioned_classes(classes, row.prompt) if classes else name_things(row.prompt, vocabulary)
            make.check(row.prompt, found)
        except ValueError as error:
            bad[row.line] = str(error)
        else:
            things[row.name] = found
    return things, bad


def describe_run(make: Generator, segment: bool, classes: Sequence[str] | None) -> dict[str, object]:
    """What the images of a table depend on, and their labels if the method is not the model's own."""
    segmenter = make.segmenter
    changed = segment and segmenter.method != find_method(segmenter.model.spec.preset)
    return {
        "model": segmenter.model.spec.name,
        "weights": fingerprint(segmenter.model.pipeline),
        "guidance": make.guidance,
        "scale": make.scale,
        "steps": make.steps,
        "size": list(make.size),
        "every": make.every,
        "segment": segment,
        "classes": None if classes is None else list(classes),
        **({"method": asdict(segmenter.method)} if changed else {}),
    }
