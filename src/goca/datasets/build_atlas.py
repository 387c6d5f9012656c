"""Pack the sprites of the scenes into one small atlas: ``python -m goca.datasets.build_atlas PATH_TO_EMOJI_ASSETS``.

The source is the ``assets`` folder of the npm package ``@lobehub/fluent-emoji-3d`` (Microsoft Fluent emoji, MIT).
The atlas that ships with the package was made by this script; run it again only to change the set of objects.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from goca.datasets.scenes import ATLAS, OBJECTS, SPRITE_SIDE


def build_atlas(assets: Path, target: Path) -> None:
    """Write one row of square RGBA sprites in the order of :data:`goca.datasets.scenes.OBJECTS`."""
    atlas = Image.new("RGBA", (SPRITE_SIDE * len(OBJECTS), SPRITE_SIDE))
    for column, code in enumerate(OBJECTS.values()):
        sprite = Image.open(assets / f"{code}.webp").convert("RGBA")
        sprite = sprite.crop(sprite.getbbox())
        sprite.thumbnail((SPRITE_SIDE, SPRITE_SIDE), Image.Resampling.LANCZOS)
        left = column * SPRITE_SIDE + (SPRITE_SIDE - sprite.width) // 2
        atlas.paste(sprite, (left, (SPRITE_SIDE - sprite.height) // 2))
    atlas.save(target, quality=90, method=6)


if __name__ == "__main__":
    build_atlas(Path(sys.argv[1]), ATLAS)
