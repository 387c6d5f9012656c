"""Label Studio's predictions: brush masks in its run-length code, and the labelling configuration that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

from goca.classes import BACKGROUND
from goca.export.registry import Format
from goca.render import Colour, add_colours, hex_colour
from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation

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
        size = {"original_width": result.image.width, "original_height": result.image.height, "image_rotation": 0}
        regions = [
            {
                "id": f"{stem}-{segment.index}",
                "type": "brushlabels",
                "from_name": "label",
                "to_name": "image",
                **size,
                "score": segment.confidence,
                "value": {"format": "rle", "rle": encode_brush(segment.mask), "brushlabels": [segment.name]},
            }
            for segment in result
        ]
        score = float(np.mean([region["score"] for region in regions])) if regions else 0.0
        predictions = [{"model_version": "goca", "score": score, "result": regions}]
        self.tasks.append({"data": {"image": f"{stem}.png"}, "predictions": predictions})
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
