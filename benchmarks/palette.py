"""Prints how far the colours of classes stay apart: python benchmarks/palette.py [--opacity 0.5] [--choose]

For the first N colours: the smallest OKLab distance (times 100) between any two of them after they were blended over
dark, grey and light ground, as usual vision and as people with protanopia, deuteranopia and tritanopia see them
(matrices of Machado, Oliveira and Fernandes 2009). A difference of about 2 can just be seen. Other palettes are printed
too. With ``--choose`` it searches for the first twenty colours anew (a minute).
"""

from __future__ import annotations

import argparse

import numpy as np

from goca.render import BACKGROUND_COLOUR, palette
from goca.render.colours import palette_points
from goca.render.vision import VISIONS, oklab, separation

COUNTS = (4, 6, 8, 10, 12, 16, 20)
PALETTES = {
    "Okabe-Ito": "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7",
    "Tol muted": "cc6677 332288 ddcc77 117733 88ccee 882255 44aa99 999933 aa4499",
    "Tableau 10": "1f77b4 ff7f0e 2ca02c d62728 9467bd 8c564b e377c2 7f7f7f bcbd22 17becf",
}
STEPS, LIGHTNESS, CHROMA = np.arange(0, 256, 15), (45, 90), (7, 20)  # the candidates
PREFIXES, TRIES, WORST = (8, 12, 20), 100, 4


def rgb(colours: str) -> np.ndarray:
    """Red, green and blue of colours in hexadecimal digits."""
    return np.array([list(bytes.fromhex(each)) for each in colours.split()])


def candidates() -> np.ndarray:
    """Colours of a grid that are neither dark, pale nor glaring."""
    colours = np.stack(np.meshgrid(STEPS, STEPS, STEPS, indexing="ij"), axis=-1).reshape(-1, 3)
    points = oklab(colours.astype(float))
    lightness, chroma = points[:, 0], np.hypot(points[:, 1], points[:, 2])
    within = (lightness >= LIGHTNESS[0]) & (lightness <= LIGHTNESS[1]) & (chroma >= CHROMA[0]) & (chroma <= CHROMA[1])
    return colours[within]


def exchange(chosen: list[int], fixed: int, between: np.ndarray, ground: np.ndarray) -> float:
    """Replace one of the nearest colours after the first ``fixed`` by the farthest candidate while that gains; the
    smallest distance then."""
    while True:
        own = between[np.ix_(chosen, chosen)].copy()
        np.fill_diagonal(own, np.inf)
        nearest = np.minimum(own.min(axis=1), ground[chosen])
        for place in [at for at in np.argsort(nearest) if at >= fixed][:WORST]:
            rest = [each for at, each in enumerate(chosen) if at != place]
            free = np.minimum(ground, between[rest].min(axis=0))
            if free.max() > nearest[place] + 1e-4:
                chosen[place] = int(free.argmax())
                break
        else:
            return float(nearest.min())


def choose(share: float) -> np.ndarray:
    """Colours whose smallest distance is large for the first 8, then for 12 that begin with these, then for 20."""
    colours, random = candidates(), np.random.default_rng(0)
    points = palette_points(np.concatenate([colours, [BACKGROUND_COLOUR]]), share).astype(np.float32)
    distances = [np.linalg.norm(points - points[:, [at]], axis=-1).min(axis=0) for at in range(len(colours) + 1)]
    between, ground = np.array([each[:-1] for each in distances[:-1]]), distances[-1][:-1]
    first: list[int] = []
    for count in PREFIXES:
        tries = []
        for _ in range(TRIES):
            chosen = [*first]
            while len(chosen) < count:
                free = np.minimum(ground, between[chosen].min(axis=0)) if chosen else ground
                chosen.append(int(random.choice(np.argsort(-free)[:30])))
            tries.append((exchange(chosen, len(first), between, ground), chosen))
        first = max(tries)[1]
    return colours[first]


def main() -> None:
    """Print a table for each palette."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opacity", type=float, default=0.5)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--share", type=float, default=0.5, help="of usual vision's distance that counts (0.5)")
    arguments = parser.parse_args()
    palettes = {"goca": np.array(palette()), **{name: rgb(colours) for name, colours in PALETTES.items()}}
    if arguments.choose:
        palettes["found now"] = choose(arguments.share)
        print("found now:", *(tuple(int(channel) for channel in colour) for colour in palettes["found now"]))
    try:
        import supervision
    except ImportError:
        print("supervision is not installed; its palette is left out")
    else:
        palettes["supervision"] = np.array([each.as_rgb() for each in supervision.ColorPalette.DEFAULT.colors])
    print(f"opacity {arguments.opacity}; first N = " + "".join(f"{count:6}" for count in COUNTS))
    for name, colours in palettes.items():
        print(name)
        for vision in VISIONS:
            known = [count for count in COUNTS if count <= len(colours)]
            cells = [f"{separation(colours[:count], vision, arguments.opacity):6.1f}" for count in known]
            print(f"  {vision:24}" + "".join(cells))


if __name__ == "__main__":
    main()
