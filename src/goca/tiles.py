"""Small things in large images: the image in overlapping tiles, each as large as the model's input, joined with the
whole.

A tile does not know what it lacks: stretched to [0, 1] by itself, the map of a class that is not in it is as bright as
any. So what is joined is what comes before the stretching: the maps of the words, refined by each tile's own
self-attention. Their mosaic is averaged with those of the whole image, which has the context, and rescaled once, by the
method's own rule; the result is averaged with the whole image's class maps. docs/resolution.md compares other ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from goca.ambient import neutral
from goca.lookup import look_up
from goca.maps.refine import spread, stretch
from goca.maps.rescale import rescale
from goca.maps.resize import resize_maps
from goca.maps.upsample import UPSAMPLING
from goca.maps.views import flip, mean_maps
from goca.method import ResolvedMethod
from goca.ranges import check_whole
from goca.types import Concept, Grid, Prompt, ScoreMaps

if TYPE_CHECKING:
    from goca.segmenter import Segmenter

Tiles = int | str
AUTO = "auto"
OVERLAP = 0.25  # share of a tile's side
MOST_TILES, MOST_AUTO = 32, 8  # along the longer side
LEAST_PIXELS = 16  # of a tile's side
LEAST_CELLS = 3  # a side of the joined maps; smaller ones cannot be blurred


@dataclass(frozen=True)
class Window:
    """A tile's place on the grid of the joined maps, in cells."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, image: Image, grid: Grid) -> Image:
        """The tile's pixels."""
        down, across = image.height / grid[0], image.width / grid[1]
        right, bottom = self.left + self.width, self.top + self.height
        return image.crop(
            (round(self.left * across), round(self.top * down), round(right * across), round(bottom * down))
        )


@dataclass(frozen=True)
class TilePlan:
    """The grid of the joined maps, and the tiles' windows on it, row by row."""

    grid: Grid
    windows: tuple[Window, ...]


def check_resolution(tiles: Tiles | None, upsample: str) -> None:
    """Refuse what is no number of tiles along the longer side, ``"auto"`` or ``None`` (the whole image alone), or no
    key of :data:`goca.maps.upsample.UPSAMPLING`.

    Raises:
        ValueError: a sentence that says what can be given.
    """
    look_up(UPSAMPLING, upsample, "upsampling")
    if isinstance(tiles, str) and tiles != AUTO:
        raise ValueError(f"tiles is {AUTO!r} or a whole number from 2 to {MOST_TILES}, not {tiles!r}")
    if tiles is not None and tiles != AUTO:
        check_whole("tiles", tiles, 2, MOST_TILES)


def plan_tiles(size: tuple[int, int], tiles: Tiles, side: int, cells: int) -> TilePlan | None:
    """Where the tiles are; ``None`` where the whole image is enough.

    Tiles are square, but no larger than the image is high and wide, and overlap by a quarter of their side at least.

    Args:
        size: width and height of the image in pixels.
        tiles: how many stand along the longer side; ``"auto"`` for as many as it takes for none to be larger, in
            pixels, than the model's input, up to 8.
        side: of the model's input, in pixels.
        cells: side of the grid of the model's maps.

    Raises:
        ValueError: tiles of less than 16 pixels.
    """
    longest, step = max(size), 1 - OVERLAP
    if tiles == AUTO:
        count = min(MOST_AUTO, math.ceil((longest / side - 1) / step) + 1)
        if count < 2:
            return None
    else:
        count = int(tiles)
    spread = 1 + step * (count - 1)
    if longest / spread < LEAST_PIXELS:
        raise ValueError(
            f"{count} tiles along {longest} pixels are smaller than {LEAST_PIXELS} pixels; take fewer tiles, "
            f"or {AUTO!r}"
        )
    height, width = (max(LEAST_CELLS, round(cells * spread * length / longest)) for length in (size[1], size[0]))
    tops, lefts = _starts(height, cells), _starts(width, cells)
    shape = (min(cells, height), min(cells, width))
    return TilePlan((height, width), tuple(Window(top, left, *shape) for top in tops for left in lefts))


def _starts(length: int, cells: int) -> list[int]:
    """First cells of windows of ``cells`` that cover ``length``, evenly spaced."""
    if length <= cells:
        return [0]
    steps = math.ceil((length - cells) / ((1 - OVERLAP) * cells))
    return [round(index * (length - cells) / steps) for index in range(steps + 1)]


def score_tiles(
    segmenter: Segmenter, image: Image, prompt: Prompt, method: ResolvedMethod, seed: int, plan: TilePlan
) -> tuple[ScoreMaps, float]:
    """Refined class maps of an image on the plan's grid, from a forward of the whole and one of each tile for each
    view.

    Tiles share forwards as images do by default, see :meth:`goca.Segmenter.forward_batch`.

    Returns:
        the maps, and the error of the whole image's forward, see :meth:`goca.Segmenter.score`.
    """
    kept = kept_tokens(prompt)
    whole = look(segmenter, [image], prompt, method, seed, kept)
    mosaic = Mosaic(plan.grid, len(kept), whole.words.device)
    size = segmenter.forward_batch()
    for first in range(0, len(plan.windows), size):
        windows = plan.windows[first : first + size]
        crops = [window.crop(image, plan.grid) for window in windows]
        tiles = look(segmenter, crops, prompt, method, seed, kept)
        for window, words in zip(windows, tiles.words, strict=True):
            mosaic.add(window, words)
    return join(whole, mosaic.mean(), renumber(prompt, kept), method), whole.error


@neutral()
def join(
    whole: Seen, mosaic: Float[Tensor, "tokens height width"], prompt: Prompt, method: ResolvedMethod
) -> ScoreMaps:
    """The mean of the whole image's class maps and of those that the method's rule makes of the words' maps, averaged
    over the mosaic and the whole.

    Args:
        prompt: whose tokens are numbered as those of the maps.
    """
    grid = (mosaic.shape[1], mosaic.shape[2])
    finer = rescale((mosaic + resize_maps(whole.words[0], grid)) / 2, prompt, method.method.rescale)
    if method.refine_order and method.refine_layers:
        finer = stretch(finer)
    (own,) = whole.scores
    coarse = replace(own, maps=resize_maps(own.maps, grid), background=resize_maps(own.background[None], grid)[0])
    return mean_maps([coarse, finer])


@dataclass(frozen=True)
class Seen:
    """What forwards of images with one prompt see, averaged over the method's views.

    Attributes:
        words: maps of tokens, refined by each image's self-attention.
        scores: the refined class maps of each image.
        error: of the first image's first view, see :meth:`goca.Segmenter.score`.
    """

    words: Float[Tensor, "images tokens height width"]
    scores: list[ScoreMaps]
    error: float


def look(
    segmenter: Segmenter,
    images: Sequence[Image],
    prompt: Prompt,
    method: ResolvedMethod,
    seed: int,
    tokens: Sequence[int],
) -> Seen:
    """Segment images of one shape as far as their maps."""
    words, scores, errors = [], list[list[ScoreMaps]](), list[float]()
    for flipped, aggregations, found in segmenter.aggregations(images, prompt, method, seed):
        errors = errors or found
        maps = torch.stack(
            [spread(each.token_maps[list(tokens)], each.refiner, method.refine_order) for each in aggregations]
        )
        words.append(maps.flip(-1) if flipped else maps)
        own = [segmenter.class_maps(each, prompt, method) for each in aggregations]
        scores.append([flip(each) for each in own] if flipped else own)
    return Seen(torch.stack(words).mean(dim=0), [mean_maps(each) for each in zip(*scores, strict=True)], errors[0])


class Mosaic:
    """Maps of overlapping tiles on one grid, each counting less towards its edges, where it sees least around it."""

    @neutral()
    def __init__(self, grid: Grid, maps: int, device: torch.device) -> None:
        self._sum = torch.zeros((maps, *grid), dtype=torch.float32, device=device)
        self._weights = torch.zeros(grid, dtype=torch.float32, device=device)

    @neutral()
    def add(self, window: Window, maps: Float[Tensor, "maps rows columns"]) -> None:
        """Put a tile's maps into its window, resized where their grids differ."""
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        down, across = (_ramp(length, maps.device) for length in (window.height, window.width))
        weights = down[:, None] * across
        self._sum[:, rows, columns] += weights * resize_maps(maps, (window.height, window.width))
        self._weights[rows, columns] += weights

    @neutral()
    def mean(self) -> Float[Tensor, "maps height width"]:
        """The weighted mean of the tiles over every cell."""
        return self._sum / self._weights


def _ramp(cells: int, device: torch.device) -> Float[Tensor, " cells"]:
    """From the edges up to 1 at the overlap's width; more than 0 everywhere."""
    places = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) / cells
    return (torch.minimum(places, 1 - places) / OVERLAP).clamp_max(1)


def kept_tokens(prompt: Prompt) -> list[int]:
    """The tokens whose maps the classes, the background and the rescaling are made of."""
    concepts = (*prompt.classes, *prompt.background)
    return sorted({*prompt.content_tokens, *(token for concept in concepts for token in concept.tokens)})


def renumber(prompt: Prompt, tokens: Sequence[int]) -> Prompt:
    """The prompt for maps of these tokens alone."""
    places = {token: place for place, token in enumerate(tokens)}

    def moved(concepts: Sequence[Concept]) -> tuple[Concept, ...]:
        return tuple(replace(each, tokens=tuple(places[token] for token in each.tokens)) for each in concepts)

    content = tuple(places[token] for token in prompt.content_tokens)
    return replace(prompt, classes=moved(prompt.classes), background=moved(prompt.background), content_tokens=content)
