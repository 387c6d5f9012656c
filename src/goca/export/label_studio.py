"""Label Studio's predictions: brush masks in its run-length code, and the labelling configuration that shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

from goca.classes import BACKGROUND
from goca.export.registry import Format
from goca.polygons import join_holes
from goca.render import Colour, add_colours, hex_colour
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation
    from goca.segment import Segment

TASKS, CONFIGURATION = "label-studio.json", "label-studio.xml"
RUN_SIZES = (3, 4, 8, 16)  # bits that the length of a run may have
VALUE_BITS = 8


class LabelStudioFormat(Format):
    """``label-studio.json``, one task an image, and ``label-studio.xml``.

    A task's image is STEM.png; replace it by the address under which Label Studio finds the image.
    """

    def __init__(self) -> None:
        self.colours: dict[str, Colour] = {}
        self.tasks: list[dict[str, Any]] = []

    def add(self, result: Segmentation, folder: Path, stem: str) -> Files:
        add_colours(self.colours, result.classes, result.colours)
        regions = [
            {"id": f"{stem}-{segment.index}", "from_name": "label", "to_name": "image", **brush(segment, segment.name)}
            for segment in result
        ]
        prediction = {"model_version": "goca", "score": mean_score(regions), "result": regions}
        self.tasks.append({"data": {"image": f"{stem}.png"}, "predictions": [prediction]})
        return {}

    def finish(self, folder: Path) -> Files:
        files = {"label-studio": folder / TASKS, "label-studio configuration": folder / CONFIGURATION}
        write_atomically(files["label-studio"], json.dumps(self.tasks, ensure_ascii=False) + "\n")
        labels = "".join(
            f'    <Label value={quoteattr(name)} background="{hex_colour(colour)}"/>\n'
            for name, colour in self.colours.items()
            if name != BACKGROUND
        )
        write_atomically(
            files["label-studio configuration"],
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n',
        )
        return files

    def earlier_shared_files(self, folder: Path) -> list[Path]:
        return [path for path in (folder / TASKS, folder / CONFIGURATION) if path.exists()]


def brush(segment: Segment, label: str) -> dict[str, Any]:
    """A class as a region of Label Studio: its mask, under one of the labels of the configuration."""
    value = {"format": "rle", "rle": encode_brush(segment.mask), "brushlabels": [label]}
    return {"type": "brushlabels", **region_of(segment), "value": value}


def polygons(segment: Segment, label: str) -> list[dict[str, Any]]:
    """A class as regions of Label Studio, one polygon a connected part, in percent of the image's sides.

    Label Studio's polygons have no holes; cuts of no width lead to them."""
    size = np.array([segment.result.image.width, segment.result.image.height])
    rings = (join_holes(polygon) / size * 100 for polygon in segment.polygons())
    values = ({"points": ring.tolist(), "closed": True, "polygonlabels": [label]} for ring in rings)
    return [{"type": "polygonlabels", **region_of(segment), "value": value} for value in values]


def region_of(segment: Segment) -> dict[str, Any]:
    """What regions of all types say."""
    image = segment.result.image
    size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
    return {**size, "score": segment.confidence}


def mean_score(regions: Sequence[Mapping[str, Any]]) -> float:
    """The score of an image from those of its regions; 0 without any."""
    return float(np.mean([region["score"] for region in regions])) if regions else 0.0


def encode_brush(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """The bytes of a mask in Label Studio's run-length code of RGBA pixels, all four channels 0 or 255.

    32 bits: how many values; 5 bits: bits a value, less 1; four times 4 bits: :data:`RUN_SIZES`, less 1; then every
    run: 1, the index of the smallest size that holds its length less 1 (2 bits), that length less 1, and the value.
    Runs longer than 2^16 are cut. At the end 1 to 8 bits 0, as in Label Studio's own encoder.
    """
    values = np.repeat(mask.ravel(), 4)
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    code = [format(len(values), "032b"), format(VALUE_BITS - 1, "05b"), *(format(n - 1, "04b") for n in RUN_SIZES)]
    longest = 2 ** RUN_SIZES[-1]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if values[start] else "00000000"
        size = next((index for index, bits in enumerate(RUN_SIZES) if length <= 2**bits), len(RUN_SIZES) - 1)
        while length:
            part = min(length, longest)
            code.append(f"1{size:02b}{part - 1:0{RUN_SIZES[size]}b}{value}")
            length -= part
    bits = "".join(code)
    bits += "0" * (8 - len(bits) % 8)
    return [int(bits[first : first + 8], 2) for first in range(0, len(bits), 8)]
