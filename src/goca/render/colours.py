"""The colours of classes: one palette, and one colour a name wherever classes are shown together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from goca.classes import BACKGROUND
from goca.render.vision import VISIONS, blended, oklab

Colour = tuple[int, int, int]

BACKGROUND_COLOUR: Colour = (48, 48, 48)
VOID_COLOUR: Colour = (224, 224, 192)  # of Pascal VOC
MAX_CLASSES = 256
BLEND = 0.5  # opacity that the palette was chosen for
USUAL_SHARE = 0.5  # usual vision is asked for twice the distance of the others

# Chosen by the distances that ``python benchmarks/palette.py`` prints: eight, then up to twelve, then up to twenty.
FIRST_COLOURS: tuple[Colour, ...] = (
    (120, 120, 255),
    (225, 180, 0),
    (0, 180, 180),
    (255, 105, 105),
    (105, 255, 180),
    (165, 30, 135),
    (210, 195, 255),
    (105, 120, 0),
    (0, 90, 195),
    (150, 90, 90),
    (165, 0, 0),
    (150, 195, 150),
    (225, 135, 255),
    (0, 165, 60),
    (75, 120, 165),
    (240, 225, 105),
    (135, 165, 0),
    (90, 210, 90),
    (30, 225, 210),
    (15, 105, 45),
)


def class_colours(names: Sequence[str]) -> tuple[Colour, ...]:
    """One colour per class: those of the palette in turn, and dark grey for ``background``, which takes none of them.

    Lists that begin alike get the same colours. :func:`run_colours` is for lists that differ.

    Raises:
        ValueError: more than 256 classes.
    """
    check_count(len(names))
    colours = iter(palette(len(names)))
    return tuple(BACKGROUND_COLOUR if name == BACKGROUND else next(colours) for name in names)


def run_colours(lists: Iterable[Sequence[str]]) -> dict[str, Colour]:
    """One colour per name over several lists of classes, such as those of a folder's images.

    The names take the palette's colours in the order of their first occurrence, and ``background`` dark grey, as with
    :func:`class_colours`. Where there are more names than colours, a colour is given again, but not to two names of one
    list of up to 256.
    """
    colours: dict[str, Colour] = {}
    for names in lists:
        add_colours(colours, names)
    return colours


def add_colours(known: dict[str, Colour], names: Sequence[str], wanted: Sequence[Colour] = ()) -> None:
    """Give a colour to each of the names that ``known`` lacks: the one of ``wanted`` at its place, or else the first of
    the palette, that no name has; where all are taken, the first that none of ``names`` has."""
    taken = set(known.values())
    for place, name in enumerate(names):
        if name in known:
            continue
        if name == BACKGROUND:
            known[name] = BACKGROUND_COLOUR
            continue
        here = {known[other] for other in names if other in known}
        choice = [*wanted[place : place + 1], *palette(min(len(known) + 1, MAX_CLASSES))]
        known[name] = next(each for used in (taken, here, set()) for each in choice if each not in used)
        taken.add(known[name])


def check_count(classes: int) -> None:
    """Refuse more classes than an 8-bit picture can tell."""
    if classes > MAX_CLASSES:
        raise ValueError(f"{classes} classes are too many for an indexed picture; pass at most {MAX_CLASSES}")


def hex_colour(colour: Sequence[int]) -> str:
    """``#rrggbb``, as web pages write colours."""
    return "#" + bytes(colour).hex()


def palette(count: int = MAX_CLASSES) -> tuple[Colour, ...]:
    """The first ``count`` of 256 colours that stay apart when they are blended, for every colour vision."""
    return FIRST_COLOURS[:count] if count <= len(FIRST_COLOURS) else _whole_palette()[:count]


@lru_cache(maxsize=1)
def _whole_palette() -> tuple[Colour, ...]:
    """The first colours, then the candidate that is farthest from all before it, again and again."""
    steps = np.arange(15, 256, 20)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness = oklab(candidates.astype(float))[:, 0]
    candidates = candidates[(lightness > 38) & (lightness < 94)]
    points = palette_points(candidates)
    chosen, nearest = [*FIRST_COLOURS], np.full(len(candidates), np.inf)
    first = palette_points(np.array([BACKGROUND_COLOUR, *chosen]))
    for index in range(first.shape[1]):
        nearest = np.minimum(nearest, _distances(points, first[:, index]))
    while len(chosen) < MAX_CLASSES:
        best = int(nearest.argmax())
        red, green, blue = (int(channel) for channel in candidates[best])
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distances(points, points[:, best]))
    return tuple(chosen)


def palette_points(colours: np.ndarray, usual_share: float = USUAL_SHARE) -> np.ndarray:
    """Places of (colours, 3) in (views, colours, 3), whose smallest distance over all views the palette makes large:
    OKLab for every kind of vision over every ground, usual vision times ``usual_share``."""
    shares = {vision: usual_share if vision == "usual" else 1.0 for vision in VISIONS}
    return np.concatenate([share * blended(colours, vision, BLEND) for vision, share in shares.items()])


def _distances(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Distance of each candidate from one point in the view where it is smallest."""
    return np.linalg.norm(points - point[:, None], axis=-1).min(axis=0)
