"""Draws what each step of the method computes, for docs/method.md: scenes-dit on a generated scene.

    python benchmarks/method_pictures.py [--series 5] [--index 3] [--word house] [--out docs/images]

Every panel is the output of the function that docs/method.md names beside its equation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from goca.datasets.scenes import make_scene
from goca.maps.aggregate import Aggregation
from goca.maps.background import assign_labels
from goca.maps.heads import aggregate_heads, head_weights
from goca.maps.refine import refine
from goca.maps.rescale import class_means, rescale
from goca.maps.resize import resize_maps
from goca.method import PRESETS, ResolvedMethod
from goca.render import class_colours, heat_map, indexed_image
from goca.segmenter import Segmenter
from goca.types import LayerRecord

SIDE, GAP, TITLE = 150, 10, 22
INK, BAR = (30, 30, 30), (0, 114, 178)


def panel(title: str, picture: Image.Image, side: int = SIDE) -> Image.Image:
    """A square picture under its title."""
    canvas = Image.new("RGB", (side, side + TITLE), "white")
    canvas.paste(picture.convert("RGB").resize((side, side), Image.Resampling.NEAREST), (0, TITLE))
    write(canvas, (side // 2, TITLE // 2), title, 13)
    return canvas


def write(canvas: Image.Image, at: tuple[int, int], text: str, size: int, anchor: str = "mm") -> None:
    """One line of text."""
    ImageDraw.Draw(canvas).text(at, text, fill=INK, font=ImageFont.load_default(size), anchor=anchor)


def table(heading: str, rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Rows of panels under a heading."""
    needed = round(ImageFont.load_default(15).getlength(heading)) + 2 * GAP
    width = max(needed, *(sum(each.width + GAP for each in row) + GAP for row in rows))
    height = 34 + sum(max(each.height for each in row) + GAP for row in rows)
    canvas = Image.new("RGB", (width, height), "white")
    write(canvas, (GAP, 17), heading, 15, "lm")
    top = 34
    for row in rows:
        left = GAP
        for each in row:
            canvas.paste(each, (left, top))
            left += each.width + GAP
        top += max(each.height for each in row) + GAP
    return canvas


def heat(image: Image.Image, values: torch.Tensor, top: float | None = None) -> Image.Image:
    """Values of a grid over the image, from 0 (dark) to ``top``, by default the largest."""
    values = resize_maps(values[None].float(), (image.height, image.width))[0]
    return heat_map(image, (values / (float(values.max()) if top is None else top)).clamp(0, 1).numpy())


def draw_heads(image: Image.Image, record: LayerRecord, word: str, tokens: tuple[int, ...]) -> Image.Image:
    """Weights of all heads of one layer, and a word's map with and without them."""
    weights = head_weights(record).unflatten(1, record.grid)
    top = float(weights.quantile(0.99))
    panels = [
        panel(f"head {head}: mean {float(each.mean()):.2f}", heat(image, each, top), 110)
        for head, each in enumerate(weights)
    ]
    maps = [
        panel(title, heat(image, aggregate_heads(record, rule)[:, list(tokens)].mean(dim=1).unflatten(0, record.grid)))
        for title, rule in ((f"{word!r}, heads averaged", "average"), (f"{word!r}, weighted", "dot-product w/o clamp"))
    ]
    heading = f"Equations 3 and 4: head weights of {record.name}, from 0 (dark) to {top:.2f} (light)"
    return table(heading, [panels, [panel("image", image), *maps]])


def draw_layers(
    image: Image.Image, records: Sequence[LayerRecord], aggregation: Aggregation, word: str, tokens: tuple[int, ...]
) -> Image.Image:
    """A bar for each layer's weight, under the layer's own map of a word."""
    side, height = 84, 100
    columns = []
    for record in records:
        own = aggregate_heads(record)[:, list(tokens)].mean(dim=1).unflatten(0, record.grid)
        weight = aggregation.weights[record.name]
        column = Image.new("RGB", (side, TITLE + side + height), "white")
        column.paste(panel(record.name.replace("transformer_blocks.", "block "), heat(image, own), side), (0, 0))
        bottom = TITLE + side + height
        length = round(weight / max(aggregation.weights.values()) * (height - 24))
        ImageDraw.Draw(column).rectangle((18, bottom - length, side - 18, bottom), fill=BAR)
        write(column, (side // 2, bottom - length - 9), f"{weight:.3f}", 12)
        columns.append(column)
    return table(f"Equation 7: each block's map of {word!r}, and the weights of the blocks", [columns])


def main() -> None:
    """Write the four pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5)
    parser.add_argument("--index", type=int, default=3)
    parser.add_argument("--word", default="house", help="class whose maps show heads and layers (default house)")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    segmenter = Segmenter.from_pretrained("scenes-dit", device="cpu", method=PRESETS["paper"])
    scene = make_scene(arguments.series, arguments.index)
    method, prompt = segmenter.resolve(), segmenter.prompt(scene.classes)
    latents = segmenter.encode([scene.image])
    backbone, records = segmenter.model.backbone, []
    with torch.inference_mode():
        noisy = backbone.add_noise(latents, segmenter.model.spec.timestep, [torch.Generator().manual_seed(0)])
        conditioning = segmenter.encode_prompts([prompt.text])
        backbone.record(noisy, segmenter.model.spec.timestep, conditioning, lambda _, record: records.append(record))

    def aggregate(method: ResolvedMethod) -> Aggregation:
        aggregator = segmenter.aggregator(method, (latents.shape[-2], latents.shape[-1]))
        for record in records:
            aggregator.add(record)
        return aggregator.finish()

    aggregation = aggregate(method)
    every = aggregate(segmenter.resolve(replace(method.method, layer_set="all")))

    raw = class_means(aggregation.token_maps, prompt.classes)
    scores = rescale(aggregation.token_maps, prompt, method.method.rescale)
    refined = refine(scores, aggregation.refiner, method.refine_order)
    names, image = list(scores.classes), scene.image
    tokens = next(concept.tokens for concept in prompt.classes if concept.name == arguments.word)

    def row(title: str, maps: torch.Tensor, top: float | None) -> list[Image.Image]:
        labels = assign_labels(type(scores)(scores.classes, maps, scores.background), (image.height, image.width), None)
        coloured = indexed_image(np.asarray(labels), class_colours(names))
        heats = [panel(f"{name}{title}", heat(image, each, top)) for name, each in zip(names, maps, strict=True)]
        return [*heats, panel(f"labels{title}", coloured)]

    reference = next(record for record in records if record.name == method.reference_layer)
    pictures = {
        "heads": draw_heads(image, reference, arguments.word, tokens),
        "layers": draw_layers(image, records, every, arguments.word, tokens),
        "rescaling": table(
            f"Equations 9 to 11: class maps, all from 0 (dark) to {float(raw.max()):.2f}, then from 0 to 1 (light)",
            [row(", before", raw, float(raw.max())), row(", rescaled", scores.maps, 1.0)],
        ),
        "refinement": table(
            f"Equation 12, applied {method.refine_order} x: class maps before and after, from 0 (dark) to 1 (light)",
            [row(", before", scores.maps, 1.0), row(", refined", refined.maps, 1.0)],
        ),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.quantize(64, dither=Image.Dither.NONE).save(arguments.out / f"method-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
