"""Texts in pictures, whatever characters they have."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

from goca.messages import shorten, visible

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LONGEST = 40  # characters of a name
# Pillow's own font holds ASCII and little more; the first of these on the machine that has all of a text draws it.
OTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "msyh.ttc",
)
_UNKNOWN = "\uffff"  # no character, so that every font draws its sign for a missing one


@lru_cache(maxsize=1024)
def readable(name: str) -> tuple[str, str | None]:
    """A name as it can be drawn, and the font for it (``None``: Pillow's own).

    It is cut to :data:`LONGEST` characters. Characters that steer or cannot be seen, and those that no font has, are
    written as escapes.
    """
    text = visible(shorten(name, LONGEST))
    if text.isascii():
        return text, None
    for file in (None, *OTHER_FONTS):
        if has_font(file) and all(can_draw(file, each) for each in text):
            return text, file
    return "".join(each if can_draw(None, each) else each.encode("unicode_escape").decode() for each in text), None


@lru_cache(maxsize=64)
def font(file: str | None, size: int) -> Font:
    """A font of the machine, or Pillow's own, in pixels."""
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


@lru_cache(maxsize=len(OTHER_FONTS) + 1)
def has_font(file: str | None) -> bool:
    """Whether the machine has the font."""
    try:
        font(file, 20)
    except OSError:
        return False
    return True


@lru_cache(maxsize=4096)
def can_draw(file: str | None, character: str) -> bool:
    """Whether a font has a character."""
    if character.isspace():
        return True
    mask, missing = (font(file, 20).getmask(each) for each in (character, _UNKNOWN))
    return mask.size != missing.size or bytes(mask) != bytes(missing)
