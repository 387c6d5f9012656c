"""The explorer's data: segmentations and explanations as plain JSON. The format is described in docs/explorer.md."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from goca import __version__
from goca.classes import BACKGROUND
from goca.explorer.packing import fitting_side, pack_labels, pack_maps, reduce_maps
from goca.explorer.stages import explain_layers, explain_stages
from goca.messages import visible
from goca.render import MAX_CLASSES, Colour, add_colours, data_uri, heat_map

if TYPE_CHECKING:
    from goca.observation.explanation import Explanation
    from goca.result import Segmentation

FORMAT = 1
IMAGE_SIDE, IMAGE_QUALITY = 960, 85
ONLY_RESULT = "This page holds the final maps and labels; Segmenter.explain or goca observe also keep what led to them."
FINAL_SIDES, MAP_BYTES = (1024, 512, 256, 128, 64, 32), 2**20
SMALLER = "The final maps are shown on {rows} x {columns} pixels; labels by another threshold are made of those."
ONE_VIEW = "The stages are those of the first of {count} forwards; the labels are made of all of them."


def payload(
    results: Segmentation | Explanation | Mapping[str, Segmentation | Explanation],
    *,
    title: str = "Segmentation",
    facts: Iterable[tuple[str, str]] = (),
    image_side: int = IMAGE_SIDE,
    map_bytes: int = MAP_BYTES,
) -> dict[str, Any]:
    """What the explorer shows, as data for JSON; all texts are made visible, see :func:`goca.messages.visible`.

    Args:
        results: one segmentation or explanation; or several by name, such as those of methods or models, between which
            the page's slider compares. Equal class names have equal colours in all of them.
        title: heading of the page.
        facts: further (name, text) pairs, such as the command line.
        image_side: pixels that the longer side of the shown image has at most.
        map_bytes: about as many has each of: the layers' maps, the heads' pictures, the final maps; they are reduced
            where they have more.

    Raises:
        ValueError: no result, more than 256 classes, or maps with values that are no finite numbers.
    """
    named = dict(results) if isinstance(results, Mapping) else {"": results}
    if not named:
        raise ValueError("there is no result to show; give at least one")
    split = {name: _split(each) for name, each in named.items()}
    if (most := max(len(result.classes) for result, _ in split.values())) > MAX_CLASSES:
        raise ValueError(f"the explorer shows at most {MAX_CLASSES} classes, not {most}; name fewer")
    colours: dict[str, Colour] = {}
    for result, _ in split.values():
        add_colours(colours, result.classes, result.colours)
    images: list[Image.Image] = []
    entries = []
    for name, (result, explanation) in split.items():
        place = next((at for at, each in enumerate(images) if each is result.image), None)
        if place is None:
            place = len(images)
            images.append(result.image)
        entries.append({"name": visible(name), "image": place, **_describe(result, explanation, colours, map_bytes)})
    return {
        "format": FORMAT,
        "title": visible(title),
        "facts": [[visible(key), visible(text)] for key, text in (*facts, ("goca", __version__))],
        "heat": _heat_colours(),
        "images": [_describe_image(each, image_side) for each in images],
        "results": entries,
    }


def _split(each: Any) -> tuple[Segmentation, Explanation | None]:
    """A result, and the explanation that it is part of, if any."""
    result = getattr(each, "result", None)
    return (each, None) if result is None else (result, each)


def _describe(
    result: Segmentation, explanation: Explanation | None, colours: Mapping[str, Colour], map_bytes: int
) -> dict[str, Any]:
    notes = [*result.notes]
    channels = [{"name": visible(name), "kind": "class", "colour": list(colours[name])} for name in result.classes]
    if BACKGROUND in result.classes:
        channels[result.classes.index(BACKGROUND)]["kind"] = "background"
    stages: list[dict[str, Any]] = []
    details: dict[str, Any] = {"model": "", "text": "", "settings": [], "background": None, "layers": []}
    if explanation is None:
        notes.append(ONLY_RESULT)
    else:
        words, stages, left_out = explain_stages(explanation, map_bytes)
        channels += [{**each, "name": visible(each["name"])} for each in words]
        layers, left_out_heads = explain_layers(explanation, map_bytes)
        notes += [*left_out, *left_out_heads]
        settings = explanation.settings
        if settings.get("views", 1) > 1:
            notes.append(ONE_VIEW.format(count=settings["views"]))
        details = {
            "model": visible(explanation.model),
            "text": visible(explanation.text),
            "settings": [[visible(key), visible(_as_text(value))] for key, value in settings.items()],
            "background": _background(settings, result.classes),
            "layers": layers,
        }
    final = reduce_maps(result.maps, fitting_side(len(result.maps), FINAL_SIDES, map_bytes) or FINAL_SIDES[-1])
    if final.shape != result.maps.shape:
        notes.append(SMALLER.format(rows=final.shape[1], columns=final.shape[2]))
    stages.append({"kind": "labels", "name": "labels", "unit": True, "maps": pack_maps(final)})
    return {
        **details,
        "notes": [visible(note) for note in notes],
        "channels": channels,
        "classes": len(result.classes),
        "stages": stages,
        "labels": pack_labels(result.labels),
    }


def _background(settings: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any] | None:
    """The rule and the threshold that made the background, where there is one."""
    if BACKGROUND not in classes or "background" not in settings:
        return None
    return {"rule": str(settings["background"]), "threshold": float(settings.get("threshold") or 0.0)}


def _describe_image(image: Image.Image, side: int) -> dict[str, Any]:
    return {"width": image.width, "height": image.height, "uri": data_uri(image, side, IMAGE_QUALITY)}


def _heat_colours() -> str:
    """Base64 of 256 RGB colours, from no evidence to full evidence."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    colours = np.asarray(heat_map(Image.new("RGB", (256, 1)), ramp, opacity=1.0))
    return base64.b64encode(colours.tobytes()).decode("ascii")


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "none" if value is None else str(value)
