"""Where words stand in a text, and which tokens of a tokenizer they are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from goca.lookup import COMMAS

STOP_WORDS = frozenset({"a", "an", "the", "and"})
FULL_STOPS = ".\uff0e\u3002\uff61\u06d4\u0964"  # full-width, ideographic, Arabic, Devanagari
PUNCTUATION = frozenset("-" + COMMAS + FULL_STOPS)
JOINERS = frozenset("_\u200c\u200d")
# Scripts that do not separate words: Thai and Lao, Burmese, Khmer, Hiragana, and Chinese characters.
UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3041, 0x309F),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
Span = tuple[int, int]


@dataclass(frozen=True)
class TokenSpans:
    """Where a text's tokens are among those the image looks at.

    Attributes:
        spans: for the position of every token that is not special, its (start, end) in the text's characters.
        limit: first position that truncation takes away.
        ids: of the tokens that the text encoder gets in front of that, special ones included, where they are known.
    """

    spans: dict[int, Span]
    limit: int
    ids: tuple[int, ...] = ()


def read_offsets(
    tokenizer: Any,
    text: str,
    max_length: int,
    *,
    start: int = 0,
    around: tuple[str, str] = ("", ""),
    padded: str = "right",
    **options: Any,
) -> TokenSpans:
    """The range of one tokenizer's tokens.

    Args:
        tokenizer: a fast tokenizer (it must report offsets).
        max_length: longest text in tokens, special ones included.
        start: position of its first token among all tokens.
        around: what the pipeline writes before and after the text, such as a system message; their tokens are not the
            text's own.
        padded: the side that is filled up to ``max_length``, "left" or "right".
        options: what else the pipeline tells the tokenizer.

    Raises:
        ValueError: a tokenizer without offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} does not report offsets; "
            "load the model's fast tokenizer (transformers >= 5 does)."
        )
    encoding = tokenizer(
        around[0] + text + around[1],
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
        **options,
    )
    special = encoding["special_tokens_mask"]
    trailing = next((count for count, flag in enumerate(reversed(special)) if not flag), len(special))
    missing = max(0, max_length - len(special)) if padded == "left" else 0
    spans: dict[int, Span] = {}
    for position, ((first, last), flag) in enumerate(zip(encoding["offset_mapping"], special, strict=True)):
        first, last = max(first - len(around[0]), 0), min(last - len(around[0]), len(text))
        if first < last and not flag:
            spans[start + missing + position] = (first, last)
    kept = len(special) if len(special) <= max_length else max_length - trailing
    return TokenSpans(spans, start + max_length - trailing, tuple(encoding["input_ids"][:kept]))


def read_template(render: Callable[[str], str]) -> tuple[str, str]:
    """What a chat template writes before and after a text that it contains once."""
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    before, _, after = render(mark).partition(mark)
    return before, after


def normalise(text: str) -> str:
    """Composed Unicode (NFC) in small letters with single spaces: what words are compared in."""
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def find_words(text: str, phrases: Iterable[str]) -> dict[str, list[Span]]:
    """Where each phrase stands in ``text`` as whole words, as (start, end) pairs of characters.

    Longer phrases claim their place first, so "tree" does not match inside "palm tree" where both are looked for. A
    part of a hyphenated word is no word. In scripts without spaces, a phrase is found wherever it stands.
    """
    claimed = bytearray(len(text))
    spans: dict[str, list[Span]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        spans[phrase] = [(start, end) for start, end in _whole_words(text, phrase) if not any(claimed[start:end])]
        for start, end in spans[phrase]:
            claimed[start:end] = b"\1" * (end - start)
    return spans


def is_punctuation(text: str) -> bool:
    """Whether there is nothing but punctuation and spaces."""
    return all(unicodedata.category(letter)[0] in "PZ" for letter in text)


def in_word(letter: str) -> bool:
    """Whether a character is part of words: letters, digits, and the marks that scripts like Devanagari add to them."""
    return letter.isalnum() or letter in JOINERS or unicodedata.category(letter)[0] == "M"


def tokens_in(span: Span, text: TokenSpans) -> list[int]:
    """Positions of a phrase's tokens; none where truncation takes one of them away."""
    tokens = [position for position, (start, end) in text.spans.items() if start < span[1] and span[0] < end]
    return tokens if tokens and tokens[-1] < text.limit else []


def is_filler(text: str, span: Span) -> bool:
    """Whether a token is punctuation or (part of) an article or "and"."""
    piece = text[slice(*span)].strip()
    if all(letter in PUNCTUATION for letter in piece):
        return True
    start, end = span[0] + text[slice(*span)].index(piece), span[0] + len(text[slice(*span)].rstrip())
    while _splits_word(text, start):
        start -= 1
    while _splits_word(text, end):
        end += 1
    return text[start:end] in STOP_WORDS


def _whole_words(text: str, phrase: str) -> Iterator[Span]:
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        whole = _is_whole(text, start, end)
        if whole:
            yield start, end
        start = text.find(phrase, max(end, start + 1) if whole else start + 1)


def _is_whole(text: str, start: int, end: int) -> bool:
    if _splits_word(text, start) or _splits_word(text, end):
        return False
    behind_hyphen = start >= 2 and text[start - 1] == "-" and in_word(text[start - 2])
    before_hyphen = end + 2 <= len(text) and text[end] == "-" and in_word(text[end + 1])
    return not (behind_hyphen or before_hyphen)


def _splits_word(text: str, place: int) -> bool:
    """Whether the characters on both sides of a place belong to one word."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after)[0] == "M":
        return True
    return in_word(before) and in_word(after) and not (_is_unspaced(before) or _is_unspaced(after))


def _is_unspaced(letter: str) -> bool:
    return any(first <= ord(letter) <= last for first, last in UNSPACED)
