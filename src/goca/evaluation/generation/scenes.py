"""Measures of embedded models, whose images a supervised network for scenes looks at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.evaluation.generation.measures import Counts, Values
from goca.evaluation.generation.scene_parser import Prediction, SceneParser
from goca.evaluation.generation.statistics import Reference
from goca.evaluation.metrics import count_pixels, intersection_union, mean_iou
from goca.guidance.generate import Generation
from goca.storage.atomic import replace_file
from goca.storage.fields import check_keys, number, whole_numbers
from goca.storage.journal import Entry

REFERENCE = 2000
BATCH = 20


class SceneMeasures:
    """Measures of embedded models; the prompts are captions of held-out scenes.

    frechet: distance to other scenes in the judge's features, see
        :class:`goca.evaluation.generation.statistics.Reference`.
    object_recall: share of the named things that the judge finds, averaged over the prompts.
    mask_miou: masks that came with the images against the judge's labels, both of the named things alone.

    Args:
        folder: keeps the features of the reference, 2,000 scenes of the series after ``seed``.
        prompts: how many.
        seed: series of scenes.

    Raises:
        ValueError: fewer than two prompts, which have no covariance.
    """

    def __init__(self, folder: Path, prompts: int, seed: int) -> None:
        if prompts < 2:
            raise ValueError(f"a distance between sets of images needs at least 2 prompts, not {prompts}")
        self.columns = {"frechet": "Frechet distance", "object_recall": "object recall", "mask_miou": "mask mIoU"}
        self.folder, self.seed = folder, seed
        self.scenes = [make_scene(seed, index) for index in range(prompts)]
        self.prompts = [scene.caption for scene in self.scenes]
        self.settings: dict[str, Any] = {"prompts": prompts, "seed": seed, "reference": REFERENCE}
        self.judge = SceneParser.load()
        self.features = self.judge.network.config.block_out_channels[-1]

    def things(self, index: int) -> Sequence[str]:
        """All that the caption names."""
        return self.scenes[index].classes

    def measure(self, index: int, result: Generation) -> Entry:
        """What the judge sees in an image, and how many pixels have which of its labels and which of the masks'."""
        assert result.segmentation is not None
        named = self.things(index)
        positions = np.array([named.index(name) for name in result.segmentation.classes])
        return judged(self.judge([result.image])[0], named, positions[result.segmentation.labels])

    def check(self, index: int, entry: Entry) -> None:
        """What the caption names, what was found of it, pixels and features."""
        check_keys(entry, ("named", "found", "pixels", "features"))
        named, found, features = list(self.things(index)), entry["found"], entry["features"]
        if entry["named"] != named:
            raise ValueError(f"the caption names {', '.join(named)}, and it something else")
        if not isinstance(found, list) or found != [name for name in named if name in found]:
            raise ValueError("'found' is no list of what the caption names")
        whole_numbers(entry, "pixels", (len(named), len(named)))
        if not isinstance(features, list) or len(features) != self.features:
            raise ValueError(f"'features' are not {self.features} numbers")
        for each in features:
            number({"features": each}, "features", -1e6, 1e6)

    def real(self, counts: Counts) -> Values:
        """The judge on the scenes that the captions tell of, with their true masks: what can be reached at best."""
        entries = []
        for scene in self.scenes:
            positions = np.zeros(len(CLASS_NAMES), np.int64)
            positions[[CLASS_NAMES.index(name) for name in scene.classes]] = range(len(scene.classes))
            entries.append(judged(self.judge([scene.image])[0], scene.classes, positions[scene.labels]))
        return self.values(entries, (), counts)

    def values(self, entries: Sequence[Entry], paths: Sequence[Path], counts: Counts) -> Values:
        """See the class."""
        shares = np.array([len(each["found"]) / len(each["named"]) for each in entries])
        features = np.array([each["features"] for each in entries])
        return {
            "frechet": self.reference.distances(features, counts),
            "object_recall": counts @ shares / len(shares),
            "mask_miou": mask_miou(entries, counts),
        }

    @cached_property
    def reference(self) -> Reference:
        """Of the real scenes; looking at them takes minutes, once in a folder."""
        path = self.folder / f"reference-{self.seed + 1}-{REFERENCE}.npy"
        if not path.exists():
            features = [
                prediction.features
                for start in range(0, REFERENCE, BATCH)
                for prediction in self.judge(
                    [make_scene(self.seed + 1, index).image for index in range(start, min(start + BATCH, REFERENCE))]
                )
            ]

            def write(scratch: Path) -> None:
                with scratch.open("wb") as stream:
                    np.save(stream, np.stack(features))

            replace_file(path, write)
        return Reference(np.load(path))


def judged(prediction: Prediction, named: Sequence[str], masks: Integer[np.ndarray, "height width"]) -> Entry:
    """One image's entry; ``masks`` are indices into ``named``."""
    pixels = count_pixels(masks, prediction.labels(named), len(named))
    return {
        "named": list(named),
        "found": prediction.found(named),
        "pixels": pixels.tolist(),
        "features": [round(float(each), 5) for each in prediction.features],
    }


def mask_miou(entries: Sequence[Entry], counts: Counts) -> Float64[np.ndarray, " sets"]:
    """mIoU of each set over the classes that occur or are predicted in it."""
    number = len(CLASS_NAMES)
    pixels = np.zeros((len(entries), number, number), np.int64)
    for each, entry in zip(pixels, entries, strict=True):
        places = [CLASS_NAMES.index(name) for name in entry["named"]]
        each[np.ix_(places, places)] = entry["pixels"]
    sets = (counts @ pixels.reshape(len(entries), -1)).reshape(-1, number, number)
    return np.array([mean_iou(intersection_union(each), "standard") for each in sets])
