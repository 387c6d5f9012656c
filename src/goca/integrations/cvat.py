"""CVAT's automatic annotation: a detection function that finds the classes you name, as masks or polygons.

With cvat-cli, on a task whose labels are called like the classes::

    cvat-cli task auto-annotate 42 --function-module goca.integrations.cvat -p model=str:sd15 -p classes=str:car,sky

CVAT calls :func:`create` with the parameters of ``-p``, and ``detect`` of what it returns with every image.
"""

from __future__ import annotations

from typing import Any

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import LabeledShapeRequest
from PIL.Image import Image

from goca.lookup import Names, read_names
from goca.models.specs import DEFAULT_MODEL
from goca.polygons import join_holes
from goca.segment import Segment
from goca.segmenter import Segmenter


class DetectionFunction:
    """Finds classes in images; what :func:`create` returns.

    Args:
        segmenter: the model and the method.
        classes: names or words, as of :class:`goca.Segmenter`; CVAT knows each class by its first word.
        background: phrases for everything else, of which no shapes are made.
        threshold: score of the background, instead of the method's.
        seed: of the noise.

    Raises:
        ValueError: no classes, or classes that the model does not know.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        classes: Names,
        *,
        background: Names = (),
        threshold: float | None = None,
        seed: int = 0,
    ) -> None:
        self._segmenter = segmenter
        self._classes = read_names(classes, "class")
        self._options: dict[str, Any] = {
            "background": read_names(background, "phrase"),
            "threshold": threshold,
            "seed": seed,
        }
        prompt = segmenter.prompt(self._classes, background=background)
        names = [concept.name for concept in prompt.classes]
        self._numbers = {name: number for number, name in enumerate(names)}
        labels = [cvataa.label_spec(name, number, type="mask") for name, number in self._numbers.items()]
        self._spec = cvataa.DetectionFunctionSpec(labels=labels)

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """A label of type mask for each class, numbered from 0."""
        return self._spec

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image) -> list[LabeledShapeRequest]:
        """One mask for each class that has pixels and the confidence that CVAT asks for; polygons where it asks for
        those, one for each connected part, with cuts of no width to its holes, as CVAT's polygons have none."""
        result = self._segmenter(image, self._classes, **self._options)
        least = context.conf_threshold or 0.0
        found = [segment for segment in result if segment.confidence >= least]
        if context.conv_mask_to_poly:
            return [shape for segment in found for shape in self._polygons(segment)]
        return [cvataa.mask(self._numbers[each.name], encode_mask(each.mask, each.box)) for each in found]

    def _polygons(self, segment: Segment) -> list[LabeledShapeRequest]:
        rings = (join_holes(polygon) for polygon in segment.polygons())
        return [cvataa.polygon(self._numbers[segment.name], ring.ravel().astype(float).tolist()) for ring in rings]


def create(
    classes: str,
    model: str = DEFAULT_MODEL,
    background: str = "",
    threshold: float | None = None,
    seed: int = 0,
    preset: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    fast: bool = False,
) -> DetectionFunction:
    """The detection function of these parameters, which CVAT reads from ``-p NAME=TYPE:VALUE``.

    Args:
        classes: with commas between them; synonyms are separated by ``|``, and CVAT knows the class by the first.
        model, device, dtype, fast: as of :meth:`goca.Segmenter.from_pretrained`.
        background, threshold, seed: as of :class:`DetectionFunction`.
        preset: the method; by default the model's own.

    Raises:
        ValueError: as of both.
    """
    segmenter = Segmenter.from_pretrained(model, device=device, dtype=dtype, method=preset, fast=fast)
    return DetectionFunction(segmenter, classes, background=background, threshold=threshold, seed=seed)
