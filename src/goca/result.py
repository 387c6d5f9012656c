"""What a segmentation gives back: labels, scores, pictures and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from PIL import Image

from goca import explorer, render
from goca.calibration import UNCALIBRATED, Calibration
from goca.classes import BACKGROUND, VOID
from goca.export import DEFAULT_FORMATS, Exporter
from goca.lookup import Names, look_up
from goca.polygons import Polygon
from goca.ranges import check_number
from goca.segment import Box, Segment

if TYPE_CHECKING:
    import supervision

NOTEBOOK_SIDE, NOTEBOOK_BYTES = 640, 2**18
SHOWN_CLASSES = 6


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmentation of one image of height x width pixels.

    Attributes:
        image: the RGB image, upright, at its own size.
        classes: names; ``background`` is the last one where there is a background.
        labels: (height, width) indices into ``classes``; 255 where a pixel is ignored, see :meth:`ignore`.
        maps: (classes, rows, columns) float32 scores in [0, 1] on the model's output grid.
        notes: sentences that the user should read, such as a warning that the model does not know this kind of image.
        colours: red, green and blue of each class, from 0 to 255; by default those of the palette in
            turn, see :func:`goca.render.run_colours`.
        dropped: classes that were asked for and seem not to be in the image, each with the relative rise of the model's
            error without its words, see :mod:`goca.absence`.
        calibration: what makes confidences of raw scores; ``None`` where none was measured.
    """

    image: Image.Image
    classes: tuple[str, ...]
    labels: Integer[np.ndarray, "height width"]
    maps: Float[np.ndarray, "classes rows columns"]
    notes: tuple[str, ...] = ()
    colours: tuple[render.Colour, ...] = ()
    dropped: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (self.image.height, self.image.width):
            raise ValueError(
                f"labels of shape {self.labels.shape} do not fit an image of {self.image.height} x {self.image.width}"
            )
        if len(self.maps) != len(self.classes):
            raise ValueError(f"{len(self.maps)} maps do not fit {len(self.classes)} classes")
        if not self.colours:
            colours = render.run_colours([self.classes])
            object.__setattr__(self, "colours", tuple(colours[name] for name in self.classes))
        if len(self.colours) != len(self.classes):
            raise ValueError(f"{len(self.colours)} colours do not fit {len(self.classes)} classes")
        used = self.labels[~self.ignored]
        if used.size and (used.min() < 0 or used.max() >= len(self.classes)):
            raise ValueError(f"labels from {used.min()} to {used.max()} do not fit {len(self.classes)} classes")

    @cached_property
    def scores(self) -> Float[np.ndarray, "classes height width"]:
        """The maps in [0, 1] at the image's size (bilinear), computed when first asked for."""
        return np.stack([self._score(index) for index in range(len(self.classes))])

    @property
    def areas(self) -> dict[str, float]:
        """Share of the image's pixels that each class has; the shares sum to 1, less what is ignored."""
        shares = render.area_shares(self.labels, len(self.classes))
        return {name: float(share) for name, share in zip(self.classes, shares, strict=True)}

    @property
    def masks(self) -> Bool[np.ndarray, "classes height width"]:
        """The pixels of every class."""
        return self.labels[None] == np.arange(len(self.classes))[:, None, None]

    @property
    def ignored(self) -> Bool[np.ndarray, "height width"]:
        """The pixels that belong to no class, see :meth:`ignore`."""
        return (self.labels == VOID) & (len(self.classes) <= VOID)

    def ignore(self, below: float) -> Segmentation:
        """The same result without the pixels whose :attr:`margin` is less: their label is 255
        (:data:`goca.classes.VOID`), no mask holds them, and every format leaves them out or writes its own number for
        pixels that do not count.

        Args:
            below: from 0, which ignores nothing, to 1.

        Raises:
            ValueError: another number, or 256 classes or more, which leave no label for it.
        """
        check_number("ignore_below", below, 0.0, 1.0)
        if len(self.classes) > VOID:
            raise ValueError(
                f"{len(self.classes)} classes leave no label for ignored pixels, {VOID}; name at most {VOID}"
            )
        return replace(self, labels=np.where(self.margin < below, VOID, self.labels))

    @cached_property
    def margin(self) -> Float[np.ndarray, "height width"]:
        """How far each pixel's class is ahead of the next: its score less the highest of the others, 0 or more.

        It is the score itself where there is one class, and 0 where a background wins by its threshold alone. Where a
        pixel is ignored: how far the highest score is ahead.
        """
        first, second = self._score(0), np.zeros(self.labels.shape, dtype=np.float32)
        own = np.where(self.labels == 0, first, 0)
        for index in range(1, len(self.classes)):
            score = self._score(index)
            second = np.maximum(second, np.minimum(first, score))
            first = np.maximum(first, score)
            own = np.where(self.labels == index, score, own)
        own = np.where(self.ignored, first, own)
        return (own - np.where(own < first, first, second)).clip(0)

    @cached_property
    def raw_confidence(self) -> dict[str, float]:
        """Mean :attr:`margin` of each class inside its mask, in [0, 1]; 0 for a class without a pixel."""
        masks = ((name, self.labels == index) for index, name in enumerate(self.classes))
        return {name: float(self.margin[mask].mean()) if mask.any() else 0.0 for name, mask in masks}

    @cached_property
    def confidence(self) -> dict[str, float]:
        """How good the mask of each class is, in [0, 1]; 0 for a class without a pixel.

        With a calibration, as of the embedded models: the IoU with the true mask that such masks had where it was
        fitted. Without one: :attr:`raw_confidence`, which ranks masks, but is no IoU and no probability.
        :attr:`confidence_meaning` tells which of the two. See docs/confidence.md.
        """
        if self.calibration is None:
            return self.raw_confidence
        there = {name: bool(share) for name, share in self.areas.items()}
        return {name: self.calibration(raw) if there[name] else 0.0 for name, raw in self.raw_confidence.items()}

    @property
    def confidence_meaning(self) -> str:
        """What :attr:`confidence` is, in words."""
        return UNCALIBRATED if self.calibration is None else self.calibration.meaning

    @property
    def boxes(self) -> dict[str, Box]:
        """Left, top, right, bottom of the segments by class, see :attr:`goca.segment.Segment.box`."""
        return {segment.name: segment.box for segment in self}

    def polygons(self) -> dict[str, list[Polygon]]:
        """Exact outlines of the segments by class, see :func:`goca.polygons.trace_polygons`."""
        return {segment.name: segment.polygons() for segment in self}

    def __iter__(self) -> Iterator[Segment]:
        """The classes that have pixels, without the background."""
        for index, name in enumerate(self.classes):
            mask = self.labels == index
            if name != BACKGROUND and mask.any():
                yield Segment(name, index, mask, self)

    def __repr__(self) -> str:
        areas = ", ".join(f"{name} {share:.0%}" for name, share in list(self.areas.items())[:SHOWN_CLASSES])
        more = f" and {len(self.classes) - SHOWN_CLASSES} more" if len(self.classes) > SHOWN_CLASSES else ""
        dropped = f"; without {', '.join(self.dropped)}" if self.dropped else ""
        return f"Segmentation({self.image.width} x {self.image.height}: {areas}{more}{dropped})"

    def _repr_html_(self) -> str:
        """The explorer in a frame, see :mod:`goca.explorer`."""
        return explorer.iframe(explorer.payload(self, image_side=NOTEBOOK_SIDE, map_bytes=NOTEBOOK_BYTES))

    def save_html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one page that shows image, maps and labels and loads nothing, see :mod:`goca.explorer`.

        :meth:`goca.observation.Explanation.save_html` also shows what led to them.

        Raises:
            FileExistsError: the file is there already, and ``overwrite`` is not set. OSError: it cannot be written.
        """
        return explorer.save_page(path, explorer.payload(self, title=Path(path).stem), overwrite=overwrite)

    def to_supervision(self) -> supervision.Detections:
        """The segments as supervision's ``Detections``: boxes, masks, class numbers, confidences, ``class_name``.

        Raises:
            ImportError: supervision is not installed.
        """
        import supervision

        segments = list(self)
        masks = np.stack([each.mask for each in segments]) if segments else np.zeros((0, *self.labels.shape), bool)
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            class_id=np.array([each.index for each in segments], dtype=int),
            confidence=np.array([each.confidence for each in segments], dtype=np.float32),
            data={"class_name": np.array([each.name for each in segments], dtype=str)},
        )

    def to_transformers(self) -> list[dict[str, Any]]:
        """The segments as transformers' pipeline "image-segmentation" returns them: dictionaries of ``score``,
        ``label`` and ``mask``, a grey image of 0 and 255."""
        return [
            {"score": each.confidence, "label": each.name, "mask": Image.fromarray(each.mask.astype(np.uint8) * 255)}
            for each in self
        ]

    def with_colours(self, colours: Mapping[str, render.Colour]) -> Segmentation:
        """The same with colours by name, such as :func:`goca.render.run_colours` gives to several class lists."""
        return replace(self, colours=tuple(colours[name] for name in self.classes))

    def overlay(self, opacity: float | None = None) -> Image.Image:
        """The image under its classes' colours, with outlines, names and a colour key, see
        :func:`goca.render.overlay`; small images are enlarged by a whole number."""
        return render.overlay(self.image, self.labels, self.classes, opacity, self.colours)

    def heat_map(self, name: str) -> Image.Image:
        """The scores of one class over the grey image, from dark blue (0) to light yellow (1).

        Raises:
            ValueError: no such class.
        """
        look_up(self.classes, name, "class")
        return render.heat_map(self.image, self._score(self.classes.index(name)))

    def label_image(self) -> Image.Image:
        """A palette picture of the image's size whose pixel values are the labels, 255 where a pixel is ignored."""
        return render.indexed_image(self.labels, self.colours)

    def to_dict(self) -> dict[str, object]:
        """Size, notes, share of ignored pixels, dropped classes, what the confidences mean, and per class its name,
        index, colour, share of the area, pixel count, confidence and COCO run lengths."""
        entries = []
        for index, (name, colour) in enumerate(zip(self.classes, self.colours, strict=True)):
            mask = self.labels == index
            entry = {
                "name": name,
                "index": index,
                "colour": list(colour),
                "area": float(mask.mean()),
                "pixels": int(mask.sum()),
                "confidence": self.confidence[name],
            }
            entries.append({**entry, "rle": render.run_lengths(mask)})
        size = {"width": self.image.width, "height": self.image.height}
        return {
            "image": size,
            "classes": entries,
            "confidence": self.confidence_meaning,
            "ignored": float(self.ignored.mean()),
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
        }

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        formats: Names = DEFAULT_FORMATS,
        *,
        overwrite: bool = False,
    ) -> dict[str, Path]:
        """Write files into a folder; either all of them or none.

        By default ``<stem>_labels.png``, ``<stem>_overlay.png``, ``<stem>_heat_<class>.png`` for each class and
        ``<stem>.json``.

        Args:
            stem: by default ``image``, and ``image-2``, ``image-3`` and so on where the folder has such files already.
            formats: keys of :data:`goca.export.FORMATS`. :class:`goca.export.Exporter` writes many images.
            overwrite: replace files that are there already, and remove heat maps of an earlier result with that stem;
                the default stem is ``image`` then.

        Returns:
            the path of each file; by default under ``"labels"``, ``"overlay"``, ``"heat <class>"`` and ``"json"``.

        Raises:
            ValueError: unknown format. FileExistsError: a file is there already, and ``overwrite`` is not set.
            OSError: the folder cannot be written to.
        """
        return Exporter(folder, formats, overwrite=overwrite).write_one(self, stem)

    def _score(self, index: int) -> Float[np.ndarray, "height width"]:
        grid = torch.from_numpy(np.ascontiguousarray(self.maps[index], dtype=np.float32))[None, None]
        size = (self.image.height, self.image.width)
        return torch.nn.functional.interpolate(grid, size, mode="bilinear").clamp(0, 1)[0, 0].numpy()
