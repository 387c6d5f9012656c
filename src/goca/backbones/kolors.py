"""Kolors: Stable Diffusion XL's UNet, which looks at 256 tokens of ChatGLM, padded in front."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import ClassVar

from goca.backbones.sdxl import SDXLBackbone
from goca.backbones.settings import JOINED
from goca.text.spans import Span, TokenSpans

TEXT_LENGTH = 256
SPACE = "\u2581"  # how SentencePiece writes a space


class KolorsBackbone(SDXLBackbone):
    """Layers and settings are SDXL's. The padding is not masked, so it stays among the tokens."""

    pipelines = ("KolorsPipeline",)
    guidance: ClassVar = {"KolorsPipeline": JOINED}

    @property
    def max_tokens(self) -> int:
        return TEXT_LENGTH

    def token_spans(self, text: str) -> list[TokenSpans]:
        """ChatGLM's tokenizer reports no offsets; they are found by its pieces."""
        pieces = self.tokenizer.tokenize(text)
        special = len(self.tokenizer.build_inputs_with_special_tokens([]))  # they stand before the text
        first = max(special, self.max_tokens - len(pieces))
        spans = {first + index: span for index, span in enumerate(piece_spans(pieces, text)) if span[0] < span[1]}
        return [TokenSpans(spans, self.max_tokens)]


def piece_spans(pieces: Sequence[str], text: str) -> list[Span]:
    """Which characters of ``text`` each SentencePiece piece stands for, as (start, end); empty for a space before the
    text that the tokenizer has put there itself.

    A character that the vocabulary lacks is several pieces, one for each of its bytes; each stands for all of it. Where
    the tokenizer normalises characters (a full-width comma to a comma), a piece stands for what its own came from.
    """
    written = [_piece_bytes(piece) for piece in pieces]
    content = b"".join(written).decode()
    origins = _origins(content, text)
    owners = [index for index, letter in enumerate(content) for _ in letter.encode()]
    spans: list[Span] = []
    start = 0
    for part in written:
        covered = [origins[owner] for owner in owners[start : start + len(part)]]
        spans.append((min(first for first, _ in covered), max(last for _, last in covered)))
        start += len(part)
    return spans


def _piece_bytes(piece: str) -> bytes:
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()


def _origins(content: str, text: str) -> list[Span]:
    """For each character of the normalised ``content``, the characters of ``text`` that it comes from."""
    origins: list[Span] = []
    for tag, start, end, first, last in SequenceMatcher(None, content, text, autojunk=False).get_opcodes():
        if tag == "equal":
            origins += [(position, position + 1) for position in range(first, last)]
        else:
            origins += [(first, last)] * (end - start)
    return origins
