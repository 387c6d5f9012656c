"""Pictures of guidance at work: the regions and the rate of every step beside the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from goca.guidance.generate import Generation
from goca.guidance.run import GuidanceStep, Regions
from goca.guidance.scfg import RATES
from goca.render import Colour, heat_map, indexed_image, legend, run_colours

TILE, GAP, LINE = 160, 4, 20
SHOWN = 6
CAPTIONS = {"cfg": "plain guidance", "s-cfg": "S-CFG", "goca": "S-CFG with GoCA's masks"}
FONT = 13


def sheet(results: Sequence[Generation]) -> Image.Image:
    """One band per image: the image, then at up to six steps its regions above its rates (0.8 dark, 3 light)."""
    segmented = [result.segmentation.classes for result in results if result.segmentation is not None]
    words = dict.fromkeys(word for result in results for word in result.words)
    colours = run_colours([*segmented, list(words)])
    bands = [band(result, colours) for result in results]
    named = [word or "(start)" for word in words]
    key = legend(named, [colours[word] for word in words], bands[0].width, FONT) if words else None
    parts = bands if key is None else [*bands, key]
    canvas = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height
    return canvas


def band(result: Generation, colours: Mapping[str, Colour]) -> Image.Image:
    """One image and its steps, regions in the colours of their words."""
    shown = spread([step for step in result.steps if step.regions[0] is not None])
    height = 2 * (TILE + GAP) + LINE
    canvas = Image.new("RGB", ((TILE + GAP) * (2 + SHOWN) + GAP, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    draw.text((GAP, 2), f"{CAPTIONS[result.guidance]}, seed {result.seed}", fill="black", font=font)
    canvas.paste(fit(result.image, 2 * TILE + GAP, Image.Resampling.BICUBIC), (GAP, LINE))
    for column, step in enumerate(shown):
        left = (TILE + GAP) * (2 + column) + GAP
        draw.text((left, 2), f"step {step.index + 1}, t = {step.timestep:.0f}", fill="black", font=font)
        regions, rate = step.regions[0], step.rates[0]
        assert regions is not None and rate is not None
        for row, tile in enumerate((region_image(regions, [colours[word] for word in result.words]), rate_image(rate))):
            canvas.paste(fit(tile), (left, LINE + row * (TILE + GAP)))
    return canvas


def spread(steps: Sequence[GuidanceStep]) -> list[GuidanceStep]:
    """At most six of the steps, from the first to the last."""
    places = np.linspace(0, len(steps) - 1, min(SHOWN, len(steps))).round().astype(int)
    return [steps[place] for place in places]


def region_image(regions: Regions, colours: Sequence[Colour]) -> Image.Image:
    """Each pixel in the colour of its word (one for each), darker outside the foreground."""
    picture = indexed_image(regions.masks.argmax(dim=0).cpu().numpy(), colours).convert("RGB")
    shade = 0.6 + 0.4 * regions.foreground.cpu().numpy()[..., None]
    return Image.fromarray((np.asarray(picture) * shade).astype(np.uint8))


def rate_image(rate: Float[Tensor, "height width"]) -> Image.Image:
    """Rates from 0.8 (dark blue) to 3 (light yellow)."""
    low, high = RATES
    scores = ((rate - low) / (high - low)).to("cpu", torch.float32).numpy()
    return heat_map(Image.new("RGB", (scores.shape[1], scores.shape[0])), scores, opacity=1.0)


def fit(picture: Image.Image, side: int = TILE, resampling: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    """At its own shape in a square of ``side`` pixels."""
    factor = side / max(picture.size)
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), resampling)
