"""The rules of an evaluation: what counts, what may be predicted, and who chooses the threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from goca._moved import module_attribute
from goca.datasets.base import Dataset
from goca.evaluation.metrics import MEANS
from goca.lookup import look_up
from goca.method import Method
from goca.ranges import check_threshold

SWEEP = tuple(round(0.1 * step, 1) for step in range(-4, 5))
FIXED_THRESHOLDS = {"max": 0.3}  # by background rule; 0 for the others

_PAPER_SPLITS = {"voc": "train", "context": "segmentation-train"}
_PAPER_LIMITS = {
    "voc": 3_000,
    "context": 3_000,
    "ade20k": 3_000,
    "cityscapes": 1_000,
    "coco-object": 10_000,
    "coco-stuff": 10_000,
}
_PAPER_IGNORES_VOID = ("coco-stuff",)  # nothing there is background
_PAPER_APPENDS_MISSING = ("voc", "context", "coco-stuff")
_PAPER_APPENDS_BACKGROUND = ("voc", "coco-object", "ade20k")


@dataclass(frozen=True)
class Protocol:
    """How predictions are made comparable with the target.

    Attributes:
        name: ``paper`` or ``standard``; also the rule of the mean, see :func:`goca.evaluation.metrics.mean_iou`.
        split: the data set's split; ``None`` takes its own default.
        class_oracle: only classes that are present in an image's target can be predicted there.
        append_missing: classes of the target that the caption missed are appended to it.
        append_background: ", background" is appended to the caption.
        void_is_background: pixels without a true label count as background; otherwise they do not count.
        thresholds: of the background, ascending; the best one over the data set is reported. Empty for a fixed one.
        threshold: the fixed one; ``None`` takes :data:`FIXED_THRESHOLDS`.
        limit: most images that are evaluated; ``None`` for all.
        as_published: go by the published experiments otherwise: their words and their rule for captions, their resizing
            of images, the caption file as the list of images, and a score of 0 for classes that were not looked for
            (see :func:`goca.evaluation.counting.decide`).
        has_background: whether there is a background at all, and so a threshold.
    """

    name: str
    split: str | None
    class_oracle: bool
    append_missing: bool
    append_background: bool
    void_is_background: bool
    thresholds: tuple[float, ...] = ()
    threshold: float | None = None
    limit: int | None = None
    as_published: bool = False
    has_background: bool = True

    def thresholds_for(self, method: Method) -> tuple[float, ...]:
        """The thresholds at which a method is counted; none without a background."""
        if not self.has_background:
            return ()
        if self.thresholds:
            return self.thresholds
        fixed = method.threshold if self.threshold is None else self.threshold
        return (FIXED_THRESHOLDS.get(method.background, 0.0) if fixed is None else fixed,)


def find_protocol(name: str, dataset: str, threshold: float | None = None) -> Protocol:
    """The protocol of that name for a data set's key.

    ``paper``: train lists of VOC and Context, at most 3,000 images of VOC, Context and ADE20K, 1,000 of Cityscapes,
    10,000 of COCO; void counts as background, but on COCO-Stuff; only classes of the target are looked for, missed ones
    are appended on VOC, Context and COCO-Stuff, the background on VOC, COCO-Object and ADE20K; classes that were not
    looked for score 0; nine thresholds from -0.4 to 0.4; mean over all published classes. It looks at the target at
    several places: its numbers compare methods, they do not tell what a user will see.

    ``standard``: validation split; void does not count; whatever the caption names can be predicted, and nothing else;
    a fixed threshold; mean over the classes that occur. Only the captions ``classes`` look at the target.

    Args:
        threshold: a fixed threshold instead of the protocol's own.

    Raises:
        ValueError: unknown protocol, or a threshold outside [-1, 1].
    """
    look_up(MEANS, name, "protocol")
    if threshold is not None:
        check_threshold(threshold)
    if name == "paper":
        return Protocol(
            "paper",
            split=_PAPER_SPLITS.get(dataset),
            class_oracle=True,
            append_missing=dataset in _PAPER_APPENDS_MISSING,
            append_background=dataset in _PAPER_APPENDS_BACKGROUND,
            void_is_background=dataset not in _PAPER_IGNORES_VOID,
            thresholds=SWEEP if threshold is None else (),
            threshold=threshold,
            limit=_PAPER_LIMITS.get(dataset),
            as_published=True,
        )
    return Protocol(
        "standard",
        split=None,
        class_oracle=False,
        append_missing=False,
        append_background=True,
        void_is_background=False,
        threshold=threshold,
    )


def adapt_to(protocol: Protocol, dataset: Dataset) -> Protocol:
    """The protocol for an opened data set: without a background there is no threshold, and void never counts.

    Raises:
        ValueError: a fixed threshold where there is no background.
    """
    if dataset.has_background:
        return protocol
    if protocol.threshold is not None:
        raise ValueError(f"{dataset.key} has no background and so no threshold; leave --threshold out")
    appends = protocol.append_background and protocol.name == "paper"
    return replace(protocol, append_background=appends, void_is_background=False, thresholds=(), has_background=False)


__getattr__ = module_attribute(__name__)
