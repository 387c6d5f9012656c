"""What is asked of every image, and what is known of it afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

import goca
from goca._moved import module_attribute
from goca.classes import class_names
from goca.datasets.base import VOID, Dataset, Sample
from goca.evaluation.counting import Counts
from goca.evaluation.protocols import Protocol
from goca.method import Method
from goca.models.fingerprint import fingerprint
from goca.segmenter import Segmenter
from goca.storage.digest import json_digest
from goca.storage.fields import check_keys, distinct, optional_text, text, whole
from goca.storage.journal import UNKNOWN
from goca.text.align import Rule
from goca.text.grammar import write

OWN, CLASSES = "own", "classes"


@dataclass(frozen=True)
class Task:
    """What is done with every image; small, and the same in every worker.

    Attributes:
        classes: synonyms per class of the data set, none for the background.
        methods: by name.
        protocol: adapted to the data set, see :func:`goca.evaluation.protocols.adapt_to`.
        captions: the text of each image name; or ``"classes"``, the names of the classes that the target has; or
            ``"own"``, the data set's own words, those names where it has none.
        alignment: rule that aligns captions with classes, see :func:`goca.text.align.align`.
        seed: of the noise, the same for every image.
        all_synonyms: a text made of the classes' names holds all their synonyms.
    """

    classes: tuple[tuple[str, ...], ...]
    methods: Mapping[str, Method]
    protocol: Protocol
    captions: str | Mapping[str, str] = OWN
    alignment: Rule = "exact"
    seed: int = 0
    all_synonyms: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class."""
        return class_names(self.classes)

    @property
    def scored_classes(self) -> int | None:
        """How many classes compete for every pixel: all of them with a background and by the published rules; otherwise
        (``None``) those that were looked for."""
        return len(self.classes) if self.protocol.as_published and self.protocol.has_background else None

    def target(self, sample: Sample) -> UInt8[np.ndarray, "height width"]:
        """The labels to compare with; :data:`goca.datasets.base.VOID` where nothing is counted.

        Raises:
            ValueError: a class that the data set does not have.
        """
        labels = sample.labels
        if self.protocol.void_is_background:
            labels = np.where(labels == VOID, 0, labels).astype(np.uint8)
        highest = int(labels[labels != VOID].max(initial=0))
        if highest >= len(self.classes):
            raise ValueError(f"{sample.name} has the label {highest}, beyond the {len(self.classes)} classes")
        return labels

    def present(self, target: UInt8[np.ndarray, "height width"]) -> list[int]:
        """The classes of one image's target, the background left out."""
        return [value for value in np.unique(target[target != VOID]).tolist() if self.classes[value]]

    def caption(self, sample: Sample, present: Sequence[int]) -> str:
        """The text that describes an image.

        Raises:
            ValueError: there is none for it.
        """
        if isinstance(self.captions, Mapping):
            if sample.name not in self.captions:
                raise ValueError(f"there is no caption for {sample.name}; add one to the caption file")
            return self.captions[sample.name]
        if self.captions == OWN and sample.caption is not None:
            return sample.caption
        return write(self.classes[index] if self.all_synonyms else self.classes[index][:1] for index in present)


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What is known of one image afterwards.

    Attributes:
        index: in the data set.
        name: of the image.
        counts: by method.
        named: classes that were looked for.
        missing: classes of the target that could have been looked for, but the caption did not name them.
        error: why the image failed, in a sentence; then the rest is empty.
        source: digest of the files that the image was read from, see :meth:`goca.datasets.base.Dataset.digest`.
    """

    index: int
    name: str
    counts: Mapping[str, Counts] = field(default_factory=dict)
    named: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    error: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For a line of a journal."""
        if self.error is not None:
            return {"index": self.index, "name": self.name, "error": self.error}
        counts = {name: each.to_json() for name, each in self.counts.items()}
        found = {"named": list(self.named), "missing": list(self.missing)}
        source = {} if self.source is None else {"source": self.source}
        return {"index": self.index, "name": self.name, **source, **found, "counts": counts}

    @classmethod
    def from_json(cls, entry: dict[str, Any], task: Task) -> ImageResult:
        """The inverse of :meth:`to_json` for results of ``task``.

        Raises:
            ValueError: a field that is missing, of another type, or of a value that it cannot have.
        """
        index, name = whole(entry, "index"), text(entry, "name")
        if "error" in entry:
            check_keys(entry, ("index", "name", "error"))
            return cls(index, name, error=text(entry, "error"))
        check_keys(entry, ("index", "name", "named", "missing", "counts"), ("source",))
        check_keys(entry["counts"], tuple(task.methods))
        classes = len(task.classes)
        steps = {name: len(task.protocol.thresholds_for(each)) for name, each in task.methods.items()}
        counts = {name: Counts.from_json(entry["counts"][name], steps[name], classes) for name in task.methods}
        targets = [each.target_pixels(classes) for each in counts.values()]
        if any((target != targets[0]).any() for target in targets):
            raise ValueError("its methods were compared with different targets")
        named, missing = (distinct(entry, key, classes - 1) for key in ("named", "missing"))
        return cls(index, name, counts, named, missing, source=optional_text(entry, "source"))


def forward_batch(segmenter: Segmenter, batch: int) -> int:
    """Images per forward: 1 on a CPU, where batching barely helps, and where images keep their shapes."""
    return max(1, batch) if segmenter.batching_helps else 1


def configuration(
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task,
    *,
    count: int,
    batch: int,
    caption_file: Path | None = None,
) -> dict[str, Any]:
    """Everything that the numbers depend on, as JSON values.

    Args:
        count: how many images there are.
        caption_file: where the task's captions come from.
    """
    spec, backbone = segmenter.model.spec, segmenter.model.backbone
    captions: Any = task.captions
    if caption_file is not None:
        captions = {"file": caption_file.name, "sha256": hashlib.sha256(caption_file.read_bytes()).hexdigest()}
    names = "\n".join(dataset.names[:count])
    return {
        "goca": goca.__version__,
        "model": spec.name,
        "weights": fingerprint(segmenter.model.pipeline),
        "image size": spec.image_size,
        "keep aspect": segmenter.keep_aspect,
        "timestep": spec.timestep,
        "fast": segmenter.fast,
        "device": backbone.device.type,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "images per forward": forward_batch(segmenter, batch),
        "dataset": dataset.key,
        "images": count,
        "images sha256": hashlib.sha256(names.encode()).hexdigest(),
        "classes": json_digest(task.classes),
        "captions": captions,
        "alignment": task.alignment,
        "seed": task.seed,
        "protocol": asdict(task.protocol),
        "methods": {name: asdict(each) for name, each in task.methods.items()},
    }


def rename_method_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of format 1 with the names of format 2: the layer sets ``all`` and ``every`` are now ``selected``
    and ``all``, and ``sharpen`` is ``pamr``."""
    sets = {"all": "selected", "every": "all"}

    def rename(method: dict[str, Any]) -> dict[str, Any]:
        renamed = {"pamr" if key == "sharpen" else key: value for key, value in method.items()}
        return {**renamed, "layer_set": sets.get(method["layer_set"], method["layer_set"])}

    return {**config, "methods": {name: rename(method) for name, method in config["methods"].items()}}


def add_published_protocol(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of format 2 with what protocols of format 3 say besides."""
    return {**config, "protocol": {**config["protocol"], "limit": None, "as_published": False}}


def add_method_timestep(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of format 3 with the method's own timestep of format 4, which was the model's before."""
    return {**config, "methods": {name: {**each, "timestep": None} for name, each in config["methods"].items()}}


def add_digests(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of an earlier format with what is compared since then."""
    return {**config, "weights": UNKNOWN, "classes": UNKNOWN}


MIGRATIONS = (rename_method_settings, add_published_protocol, add_method_timestep, add_digests)

__getattr__ = module_attribute(__name__)
