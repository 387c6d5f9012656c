"""Pictures of an explanation, each of which says what its colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from goca.observation import drawing
from goca.observation.drawing import GAP, LINE, SIDE, bar, caption, heat, label, photo, table
from goca.observation.layers import LayerMaps
from goca.observation.tokens import ROLES
from goca.render import Colour, indexed_image, legend

if TYPE_CHECKING:
    from goca.observation.explanation import Explanation, PixelScores

ROLE_COLOURS: tuple[Colour, ...] = ((130, 130, 130), (0, 114, 178), (230, 159, 0))
TOP_TOKENS = 12
SHOWN_SCORE = 5e-5  # lower ones would be written as 0.0000
TEXT = 160  # pixels of text beside a row of pictures


def draw_words(explanation: Explanation) -> Image.Image:
    """The aggregated map of every class and every other content word, each from its lowest to its highest value."""
    tiles = [caption(photo(explanation.image), "image")]
    for word in explanation.words:
        values = explanation.grid_map(word)
        tiles.append(caption(_own_range(explanation.image, values), word, _range(values)))
    title = "Aggregated attention to each word (equation 8), from its lowest value (dark) to its highest (light)"
    return table(title, drawing.in_rows(tiles, 6))


def draw_shares(explanation: Explanation) -> Image.Image:
    """Shares of special, content and stuff tokens: per pixel after aggregation, and per layer."""
    maps = [
        caption(heat(explanation.image, each, 0.0, 1.0), role, f"mean {each.mean():.1%}")
        for role, each in zip(ROLES, explanation.share_maps, strict=True)
    ]
    name_width = _name_width(explanation)
    rows = [
        ("aggregated", explanation.shares),
        *((each.name, explanation.layer_shares(each.name)) for each in explanation.layers),
    ]
    bars = [
        [
            label(name, name_width, LINE),
            drawing.stacked_bar([shares[role] for role in ROLES], ROLE_COLOURS, 2 * SIDE),
            label(f"content {shares['content']:.1%}", SIDE, LINE),
        ]
        for name, shares in rows
    ]
    top = table(
        "Share of each pixel's attention to the text, from 0 (dark) to 1 (light); rescaling divides by content", [maps]
    )
    bottom = table("The same, mean over the pixels", bars)
    return _stack([top, bottom, legend(ROLES, ROLE_COLOURS, bottom.width, drawing.FONT)])


def draw_layers(explanation: Explanation, head: int | None = None) -> Image.Image:
    """A row for each layer: its weight, and its map of each class; of one head of every layer, where that is named.

    Raises:
        ValueError: a layer without that head.
    """
    words, name_width, height = _concepts(explanation), _name_width(explanation), _row_height(explanation)
    top = max(each.weight for each in explanation.layers)
    rows = []
    for layer in explanation.layers:
        row = [label(f"{layer.grid[0]} x {layer.grid[1]}, {layer.heads} heads", name_width, height, heading=layer.name)]
        row.append(bar(layer.weight, top, SIDE // 2, f"{layer.weight:.3f}", height=height))
        for word in words:
            values = explanation.grid_map(word, layer.name, head)
            row.append(caption(_own_range(explanation.image, values), word, _range(values)))
        rows.append(row)
    what = "attention (equation 4)" if head is None else f"attention of head {head}"
    return table(f"Layers: weight (equation 7), and {what} to each class, from lowest (dark) to highest (light)", rows)


def draw_heads(explanation: Explanation, layer: LayerMaps) -> Image.Image:
    """A row for each head of a layer: its weight per pixel, its shares, and its map of each class."""
    words = _concepts(explanation)
    height = _row_height(explanation)
    means = layer.head_weights.mean(axis=(1, 2))
    top = float(np.quantile(np.abs(layer.head_weights), 0.99))
    size = photo(explanation.image).size
    rows = []
    for head in range(layer.heads):
        shares = layer.head_shares[head]
        row = [
            label(
                f"mean weight {means[head]:.3f}\ncontent tokens {shares[1]:.1%}", TEXT, height, heading=f"head {head}"
            ),
            caption(drawing.signed(layer.head_weights[head], top, size), "weight", _range(layer.head_weights[head])),
            *(
                caption(_own_range(explanation.image, values), word, _range(values))
                for word in words
                for values in (explanation.grid_map(word, layer.name, head),)
            ),
        ]
        rows.append(row)
    title = (
        f"Heads of {layer.name}: weight per pixel (equation 3; blue is below 0, white 0, red {top:.2f} and more), and "
        "probability of each class, from lowest (dark) to highest (light)"
    )
    return table(title, rows)


def draw_head_weights(explanation: Explanation) -> Image.Image:
    """Mean weight of every head of every layer as numbers and colours."""
    means = [each.head_weights.mean(axis=(1, 2)) for each in explanation.layers]
    top = max(float(np.abs(each).max()) for each in means)
    size, name_width = (44, LINE + 6), _name_width(explanation)
    rows = [[label("", name_width, size[1]), *(label(f"  {head}", *size) for head in range(max(map(len, means))))]]
    for layer, weights in zip(explanation.layers, means, strict=True):
        cells = []
        for weight in weights:
            cell = drawing.signed(np.full((1, 1), weight), top, size)
            drawing.write(cell, (size[0] // 2, size[1] // 2), f"{weight:.2f}", anchor="mm", colour=_readable(cell))
            cells.append(cell)
        rows.append([label(layer.name, name_width, size[1]), *cells])
    title = "Weight of each head (column) in each layer (row), mean over the pixels; a row sums to 1; blue is below 0"
    return table(title, rows)


def draw_stages(explanation: Explanation) -> Image.Image:
    """A row for each class: aggregated, rescaled, refined and final maps; at the end the labels."""
    stages = [
        (stage, maps, float(maps.max()))
        for stage, maps in (
            ("rescaled", explanation.rescaled),
            ("refined", explanation.refined),
            ("final", explanation.result.maps),
        )
    ]
    height = _row_height(explanation)
    rows, width = [], min(TEXT, max(map(drawing.text_width, explanation.classes)) + GAP)
    for index, name in enumerate(explanation.classes):
        row = [label("", width, height, heading=name)]
        values = explanation.class_attention[index]
        top = float(values.max())
        row.append(caption(heat(explanation.image, values, 0.0, top), "aggregated", f"0 to {top:.3g}"))
        row += [
            caption(heat(explanation.image, maps[index], 0.0, top), stage, f"0 to {top:.3g}")
            for stage, maps, top in stages
        ]
        rows.append(row)
    title = (
        "From attention to labels: 0 is dark; light is each map's own highest value, then the highest of all classes"
    )
    colours = explanation.result.colours
    labels = indexed_image(explanation.result.labels, colours).convert("RGB")
    tiles = [caption(photo(explanation.image), "image"), caption(photo(labels), "labels")]
    body = table(title, [*rows, [label("", width, height), *tiles]])
    return _stack([body, legend(explanation.classes, colours, body.width, drawing.FONT)])


def draw_pixel(explanation: Explanation, pixel: PixelScores) -> Image.Image:
    """Where the pixel is, its highest tokens, and its classes at every stage."""
    picture = photo(explanation.image, 2 * SIDE)
    factor = picture.width / explanation.image.width
    x, y = round((pixel.x + 0.5) * factor), round((pixel.y + 0.5) * factor)
    for radius, ring in ((7, "black"), (6, "white"), (5, "black")):
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), outline=ring)
    highest = [at for at in np.argsort(-pixel.tokens, kind="stable")[:TOP_TOKENS] if pixel.tokens[at] >= SHOWN_SCORE]
    top = float(pixel.tokens.max())
    bars = []
    for position in highest:
        token, score = explanation.tokens[position], float(pixel.tokens[position])
        numbered = label(f"{position}  {token.text}", SIDE, LINE)
        bars.append([numbered, bar(score, top, SIDE, f"{score:.4f}", ROLE_COLOURS[ROLES.index(token.role)])])
    tokens = table(f"Highest tokens of {len(pixel.tokens)}", bars)
    rows = [[label(text, SIDE // 2, LINE) for text in ("", "attention", "rescaled", "refined", "final")]]
    for index, name in enumerate(explanation.classes):
        scores = (pixel.attention[index], pixel.rescaled[index], pixel.refined[index], pixel.scores[index])
        rows.append([label(name, SIDE, LINE), *(label(f"{score:.3f}", SIDE // 2, LINE) for score in scores)])
    classes = table("Classes", rows)
    place = caption(picture, f"pixel {pixel.x},{pixel.y}: {pixel.label}")
    body = table(f"Scores at pixel {pixel.x},{pixel.y}", [[place, tokens, classes]])
    return _stack([body, legend(ROLES, ROLE_COLOURS, body.width, drawing.FONT)])


def draw_word(
    explanation: Explanation, word: str, layer: str | int | None = None, head: int | None = None
) -> Image.Image:
    """The map of a word over the grey image at the image's size, from its lowest (dark) to its highest value."""
    values = explanation.grid_map(word, layer, head)
    return _own_range(explanation.image, values, side=None)


def _row_height(explanation: Explanation) -> int:
    """Pixels of a row of tiles without their captions, which holds three lines of text at least."""
    return max(photo(explanation.image).height, 3 * LINE)


def _name_width(explanation: Explanation) -> int:
    """Pixels that the longest name of a layer needs: two layers often differ in the middle of their names."""
    return max(map(drawing.text_width, ("aggregated", *(each.name for each in explanation.layers)))) + GAP


def _concepts(explanation: Explanation) -> list[str]:
    """Classes and background phrases; they have tokens of their own."""
    concepts = {token.concept for token in explanation.tokens}
    return [word for word in explanation.words if word in concepts]


def _own_range(image: Image.Image, values: Float[np.ndarray, "rows columns"], side: int | None = SIDE) -> Image.Image:
    return heat(image, values, float(values.min()), float(values.max()), side)


def _range(values: Float[np.ndarray, "rows columns"]) -> str:
    return f"{values.min():.2g} to {values.max():.2g}"


def _readable(cell: Image.Image) -> Colour:
    """Black or white, whichever stands out of a coloured cell."""
    return drawing.INK if sum(cell.getpixel((0, 0))) > 380 else drawing.WHITE  # type: ignore[arg-type]


def _stack(parts: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new(
        "RGB", (max(each.width for each in parts), sum(each.height for each in parts) + GAP), drawing.WHITE
    )
    top = 0
    for each in parts:
        canvas.paste(each, (0, top))
        top += each.height
    return canvas
