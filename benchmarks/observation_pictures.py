"""Draws the pictures of docs/observe.md: scenes-dit on a generated scene.

    python benchmarks/observation_pictures.py [--series 5] [--index 3] [--out docs/images]

They are those that ``goca observe --preset paper --at 40,60`` writes for that scene, in fewer colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from goca.datasets.scenes import make_scene
from goca.observation import pictures
from goca.observation.files import heaviest
from goca.segmenter import Segmenter

PIXEL = (40, 60)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5)
    parser.add_argument("--index", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    scene = make_scene(arguments.series, arguments.index)
    segmenter = Segmenter.from_pretrained("scenes-dit", device="cpu", method="paper")
    explanation = segmenter.explain(scene.image, scene.classes)
    drawn = {
        "shares": pictures.draw_shares(explanation),
        "layers": pictures.draw_layers(explanation),
        "heads": pictures.draw_heads(explanation, heaviest(explanation.layers)),
        "stages": pictures.draw_stages(explanation),
        "pixel": pictures.draw_pixel(explanation, explanation.at(*PIXEL)),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, picture in drawn.items():
        # The few red pixels among many dark ones would lose their colour.
        few = picture if name == "heads" else picture.quantize(256, dither=Image.Dither.NONE)
        few.save(arguments.out / f"observe-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
