"""Where words stand in a text, and which tokens of a tokenizer they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

STOP_WORDS = frozenset({"a", "an", "the", "and"})
PUNCTUATION = frozenset(",.-")
Span = tuple[int, int]


@dataclass(frozen=True)
class TokenSpans:
    """Where a text's tokens are among those the image looks at.

    Attributes:
        spans: for the position of every token that is not special, its (start, end) in the text's characters.
        limit: first position that truncation takes away.
    """

    spans: dict[int, Span]
    limit: int


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
    return TokenSpans(spans, start + max_length - trailing)


def read_template(render: Callable[[str], str]) -> tuple[str, str]:
    """What a chat template writes before and after a text that it contains once."""
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    before, _, after = render(mark).partition(mark)
    return before, after


def find_words(text: str, phrases: Iterable[str]) -> dict[str, list[Span]]:
    """Where each phrase stands in ``text`` as whole words, as (start, end) pairs of characters.

    Longer phrases claim their place first, so "tree" does not match inside "palm tree" where both are looked for. A
    part of a hyphenated word is no word.
    """
    claimed: list[Span] = []
    spans: dict[str, list[Span]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        pattern = rf"(?<!\w)(?<!\w-){re.escape(phrase)}(?!\w)(?!-\w)"
        free = [
            match.span()
            for match in re.finditer(pattern, text)
            if all(match.end() <= start or end <= match.start() for start, end in claimed)
        ]
        spans[phrase] = free
        claimed += free
    return spans


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
    while start > 0 and re.match(r"\w", text[start - 1]):
        start -= 1
    while end < len(text) and re.match(r"\w", text[end]):
        end += 1
    return text[start:end] in STOP_WORDS
