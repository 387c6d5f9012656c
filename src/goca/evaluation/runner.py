"""Evaluate methods side by side over the same recordings: read, align, record, decide, count, write down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from goca.datasets.base import Dataset, Sample
from goca.evaluation.counting import Decision, count, decide, no_class_found
from goca.evaluation.task import ImageResult, Task, forward_batch
from goca.maps.post import post_process
from goca.memory import return_free_memory
from goca.messages import first_names
from goca.method import Method
from goca.models import memory_errors
from goca.ranges import check_limit, check_whole
from goca.segmenter import Segmenter
from goca.storage.journal import ANEW, Journal
from goca.text.align import Aligned, EmptyPrompt, align
from goca.types import ScoreMaps

BATCH = 8
Compute = Callable[[Dataset, Task, list[range]], Iterable[list[ImageResult]]]


@dataclass(frozen=True, eq=False)
class _Prepared:
    index: int
    sample: Sample
    target: UInt8[np.ndarray, "height width"]
    aligned: Aligned | None  # None: nothing to look for


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task,
    *,
    limit: int | None = None,
    batch: int = BATCH,
    journal: Journal | None = None,
    progress: Callable[[int, int], None] | None = None,
    compute: Compute | None = None,
) -> list[ImageResult]:
    """Results of the first ``limit`` images, in order.

    An image's result depends neither on the others nor, on a CPU, on ``batch``. (On an accelerator ``batch`` images
    share a forward, always the same ones, because rounding depends on the batch.)

    Args:
        batch: images that are read, computed and written down together.
        journal: to continue; batches that it holds without a failure are not computed again.
        progress: called with (images done, images in all).
        compute: from groups of indices to their results, in any order; by default this process does it, and
            :meth:`goca.distributed.cluster.Workers.evaluate` spreads it over many.

    Raises:
        ValueError: ``limit`` or ``batch`` below 1; a journal that holds anything wrong, or results of images that have
            changed since.
    """
    count = count_images(dataset, limit)
    done = {} if journal is None else read_done(journal, dataset, task, count)
    with memory_errors(segmenter.model.spec.name):
        groups = list(pending_groups(count, batch, done))
        finished = count - sum(map(len, groups))
        if progress is not None:
            progress(finished, count)
        if compute is None:
            parts: Iterable[list[ImageResult]] = (evaluate_indices(segmenter, dataset, group, task) for group in groups)
        else:
            parts = compute(dataset, task, groups)
        for found in parts:
            done |= {result.index: result for result in found}
            if journal is not None:
                journal.append([result.to_json() for result in found])
            finished += len(found)
            if progress is not None:
                progress(finished, count)
    return [done[index] for index in range(count)]


def read_done(journal: Journal, dataset: Dataset, task: Task, count: int) -> dict[int, ImageResult]:
    """The results that a journal holds, by index; the last one of each image.

    Raises:
        ValueError: a line that is damaged or of an image that is not there; images that have changed since.
    """

    def read(entry: dict[str, Any]) -> ImageResult:
        result = ImageResult.from_json(entry, task)
        if result.index >= count or result.name != dataset.names[result.index]:
            raise ValueError(f"image {result.index} of this run is not {result.name}")
        return result

    done = {result.index: result for result in journal.read(read)}
    changed = [
        result.name
        for result in done.values()
        if result.source is not None and result.source != dataset.digest(result.index)
    ]
    if changed:
        raise ValueError(
            f"the image, labels or caption of {first_names(changed)} ({len(changed)} of the {len(done)} images that "
            f"{journal.path} holds) changed since; put them back, or {ANEW}"
        )
    return done


def count_images(dataset: Dataset, limit: int | None) -> int:
    """How many images are evaluated.

    Raises:
        ValueError: none at all.
    """
    limit = check_limit(limit)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count == 0:
        raise ValueError(f"{dataset.key} holds no images; check its folder and split")
    return count


def pending_groups(count: int, batch: int, done: Mapping[int, ImageResult]) -> Iterator[range]:
    """The batches, always the same for the same ``batch``, of which an image is not done or has failed."""
    check_whole("the batch", batch, 1)
    for start in range(0, count, batch):
        group = range(start, min(start + batch, count))
        if not all(index in done and done[index].error is None for index in group):
            yield group


def evaluate_indices(segmenter: Segmenter, dataset: Dataset, indices: Sequence[int], task: Task) -> list[ImageResult]:
    """Read images and evaluate them; one that cannot be read has failed."""
    samples, failed = [], []
    for index in indices:
        try:
            samples.append((index, dataset[index]))
        except (ValueError, OSError) as error:
            failed.append(ImageResult(index, dataset.names[index], error=str(error)))
    results = [
        result if result.error is not None else replace(result, source=dataset.digest(result.index))
        for result in evaluate_batch(segmenter, samples, task)
    ]
    return sorted([*results, *failed], key=lambda result: result.index)


def evaluate_batch(segmenter: Segmenter, samples: Sequence[tuple[int, Sample]], task: Task) -> list[ImageResult]:
    """Evaluate images that were read, given with their index in the data set; depends on nothing else."""
    results: list[ImageResult] = []
    prepared: list[_Prepared] = []
    for index, sample in samples:
        try:
            prepared.append(_prepare(segmenter, index, sample, task))
        except ValueError as error:
            results.append(ImageResult(index, sample.name, error=str(error)))
    step = forward_batch(segmenter, len(prepared))
    for start in range(0, len(prepared), step):
        results += _evaluate_group(segmenter, prepared[start : start + step], task)
    return_free_memory()
    return sorted(results, key=lambda result: result.index)


@dataclass(frozen=True, eq=False)
class Predicted:
    """One image by one method.

    Attributes:
        decision: its labels at every threshold.
        indices: the data set's class of each map.
        scores: what they were decided by; ``None`` where no class was looked for.
    """

    decision: Decision
    indices: tuple[int, ...]
    scores: ScoreMaps | None


def predict(segmenter: Segmenter, sample: Sample, task: Task) -> dict[str, Predicted]:
    """Labels and maps of one image by every method.

    Raises:
        ValueError: the image fails.
    """
    each = _prepare(segmenter, 0, sample, task)
    if each.aligned is None:
        return {name: Predicted(_nothing(each, task, name), (), None) for name in task.methods}
    found = {}
    for name, (scores,) in _record(segmenter, [each], task).items():
        scores = _process(each, scores, task.methods[name])
        found[name] = Predicted(_choose(each, scores, task, name), tuple(each.aligned.indices), scores)
    return found


def _prepare(segmenter: Segmenter, index: int, sample: Sample, task: Task) -> _Prepared:
    target, protocol, backbone = task.target(sample), task.protocol, segmenter.model.backbone
    present = task.present(target)
    allowed = present if protocol.class_oracle else [index for index, words in enumerate(task.classes) if words]
    caption = task.caption(sample, present)
    aligned = None
    if allowed and (caption or protocol.append_missing):
        try:
            aligned = align(
                caption,
                task.classes,
                allowed,
                backbone.token_spans,
                max_length=backbone.max_tokens,
                append_missing=protocol.append_missing,
                append_background=protocol.append_background,
                rule=task.alignment,
            )
        except EmptyPrompt:
            if not protocol.as_published:
                raise
    if aligned is not None and aligned.prompt.classes:
        return _Prepared(index, sample, target, aligned)
    if not protocol.has_background:
        raise ValueError(
            f"the caption {caption!r} of {sample.name} names no class that can be predicted; write another"
        )
    return _Prepared(index, sample, target, None)


def _evaluate_group(segmenter: Segmenter, group: Sequence[_Prepared], task: Task) -> list[ImageResult]:
    try:
        decisions = _decide(segmenter, group, task)
    except ValueError as error:  # one image's maps are not finite, say: find out whose
        if len(group) == 1:
            return [ImageResult(group[0].index, group[0].sample.name, error=str(error))]
        return [result for each in group for result in _evaluate_group(segmenter, [each], task)]
    return [_result(each, found, task) for each, found in zip(group, decisions, strict=True)]


def _result(each: _Prepared, decisions: Mapping[str, Decision], task: Task) -> ImageResult:
    counts = {name: count(decision, each.target, len(task.classes)) for name, decision in decisions.items()}
    named = () if each.aligned is None else each.aligned.indices
    missing = sorted(set(task.present(each.target)) - set(named))
    return ImageResult(each.index, each.sample.name, counts, named, tuple(missing))


def _decide(segmenter: Segmenter, group: Sequence[_Prepared], task: Task) -> list[dict[str, Decision]]:
    """Labels of every image by every method, from one set of recordings."""
    seen = [each for each in group if each.aligned is not None]
    maps = _record(segmenter, seen, task) if seen else {}
    found: dict[int, dict[str, Decision]] = {}
    for position, each in enumerate(seen):
        found[each.index] = {
            name: _choose(each, _process(each, maps[name][position], method), task, name)
            for name, method in task.methods.items()
        }
    for each in group:
        if each.aligned is None:
            found[each.index] = {name: _nothing(each, task, name) for name in task.methods}
    return [found[each.index] for each in group]


def _record(segmenter: Segmenter, seen: Sequence[_Prepared], task: Task) -> dict[str, list[ScoreMaps]]:
    """By method the maps of every image, before they are drawn to the image's edges."""
    published = task.protocol.as_published
    images = [(published and each.sample.stored) or each.sample.image for each in seen]
    latents = segmenter.encode(images, as_published=published)
    flips = any(method.flip for method in task.methods.values())
    mirrored = segmenter.encode(images, mirrored=True, as_published=published) if flips else None
    prompts = [each.aligned.prompt for each in seen if each.aligned is not None]
    maps, _ = segmenter.score(latents, prompts, list(task.methods.values()), task.seed, mirrored)
    return dict(zip(task.methods, maps, strict=True))


def _process(each: _Prepared, scores: ScoreMaps, method: Method) -> ScoreMaps:
    return post_process(scores, each.sample.image, method.pamr, method.post)


def _choose(each: _Prepared, scores: ScoreMaps, task: Task, name: str) -> Decision:
    assert each.aligned is not None
    method = task.methods[name]
    return decide(
        scores,
        each.aligned.indices,
        each.target.shape,
        method.background,
        task.protocol.thresholds_for(method),
        task.scored_classes,
    )


def _nothing(each: _Prepared, task: Task, name: str) -> Decision:
    return no_class_found(each.target.shape, task.protocol.thresholds_for(task.methods[name]), task.scored_classes)
