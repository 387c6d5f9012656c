"""Prints how far the colours of classes stay apart: python benchmarks/palette.py [--opacity 0.5]

For the first N colours: the smallest OKLab distance (times 100) between any two of them after they were blended over
dark, grey and light ground, as usual vision and as people with protanopia, deuteranopia and tritanopia see them
(matrices of Machado, Oliveira and Fernandes 2009). A difference of about 2 can just be seen. Other
palettes are printed too.
"""

from __future__ import annotations

import argparse

import numpy as np

from goca.render import palette
from goca.render.vision import VISIONS, separation

COUNTS = (4, 6, 8, 10, 12, 16, 20)
PALETTES = {
    "Okabe-Ito": "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7",
    "Tol muted": "cc6677 332288 ddcc77 117733 88ccee 882255 44aa99 999933 aa4499",
    "Tableau 10": "1f77b4 ff7f0e 2ca02c d62728 9467bd 8c564b e377c2 7f7f7f bcbd22 17becf",
}


def rgb(colours: str) -> np.ndarray:
    """Red, green and blue of colours in hexadecimal digits."""
    return np.array([list(bytes.fromhex(each)) for each in colours.split()])


def main() -> None:
    """Print a table for each palette."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opacity", type=float, default=0.5)
    opacity = parser.parse_args().opacity
    palettes = {"goca": np.array(palette()), **{name: rgb(colours) for name, colours in PALETTES.items()}}
    try:
        import supervision
    except ImportError:
        print("supervision is not installed; its palette is left out")
    else:
        palettes["supervision"] = np.array([each.as_rgb() for each in supervision.ColorPalette.DEFAULT.colors])
    print(f"opacity {opacity}; first N = " + "".join(f"{count:6}" for count in COUNTS))
    for name, colours in palettes.items():
        print(name)
        for vision in VISIONS:
            known = [count for count in COUNTS if count <= len(colours)]
            cells = [f"{separation(colours[:count], vision, opacity):6.1f}" for count in known]
            print(f"  {vision:24}" + "".join(cells))


if __name__ == "__main__":
    main()
