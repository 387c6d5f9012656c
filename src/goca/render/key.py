"""The colour key under a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from goca.render.colours import Colour
from goca.render.text import font, readable

INK, GREY, FRAME = (40, 40, 40), (120, 120, 120), (150, 150, 150)


def legend(
    names: Sequence[str], colours: Sequence[Colour], width: int, font_size: int, values: Sequence[str] = ()
) -> Image.Image:
    """Coloured squares with names, and values behind them, in as many columns as ``width`` holds, on white; wider where
    an entry needs it."""
    texts = [readable(name) for name in names]
    values = values or [""] * len(names)
    plain = font(None, font_size)
    pad, row = font_size * 2 // 3, font_size * 8 // 5
    name_width = max(int(font(file, font_size).getlength(text)) for text, file in texts)
    value_width = max(int(plain.getlength(value)) for value in values)
    value_left = font_size + pad + name_width + (pad if value_width else 0)
    column = value_left + value_width + 2 * pad
    columns = min(len(names), max(1, (width - pad) // column))
    rows = -(-len(names) // columns)
    picture = Image.new("RGB", (max(width, column), rows * row + pad), "white")
    draw = ImageDraw.Draw(picture)
    for i, ((text, file), colour, value) in enumerate(zip(texts, colours, values, strict=True)):
        left, middle = pad + i // rows * column, pad // 2 + i % rows * row + row // 2
        top = middle - font_size // 2
        draw.rectangle((left, top, left + font_size - 1, top + font_size - 1), fill=colour, outline=FRAME)
        draw.text((left + font_size + pad, middle), text, fill=INK, font=font(file, font_size), anchor="lm")
        draw.text((left + value_left + value_width, middle), value, fill=GREY, font=plain, anchor="rm")
    return picture
