"""Classes or a caption become a text, together with which of its tokens mean what.

Words are found in the text by their boundaries and mapped to tokens through the tokenizer's own offsets, so that "car"
never lands on "carpet" and every token of "fire engine" counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from goca.types import Concept, Prompt

STOP_WORDS = frozenset({"a", "an", "the", "and"})
PUNCTUATION = frozenset(",.-")
Span = tuple[int, int]


@dataclass(frozen=True)
class TextRange:
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
) -> TextRange:
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
    return TextRange(spans, start + max_length - trailing)


def read_template(render: Callable[[str], str]) -> tuple[str, str]:
    """What a chat template writes before and after a text that it contains once."""
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    before, _, after = render(mark).partition(mark)
    return before, after


def build_prompt(
    classes: Sequence[str],
    text_ranges: Callable[[str], Sequence[TextRange]],
    *,
    caption: str | None = None,
    background: Sequence[str] = (),
    vocabulary: Iterable[str] | None = None,
    max_length: int,
) -> Prompt:
    """Write the text for some classes, or find them in a caption, and align both with the tokens.

    Args:
        classes: one string per class, synonyms separated by ``|``; the first is its name.
        text_ranges: tells where the tokens of a text are, see :meth:`goca.backbones.Backbone.text_ranges`; a class
            gets its tokens in every range.
        caption: text that mentions every class; by default the classes' names and the background phrases, joined by
            commas. Background phrases that it does not mention are appended.
        background: phrases that stand for everything else, written like classes.
        vocabulary: phrases an embedded model knows; ``None`` for a model that knows any word.
        max_length: longest text of the model in tokens, special ones included.

    Returns:
        the prompt; its text is in lower case, its token positions count special tokens too.

    Raises:
        ValueError: no classes; a blank or repeated one; one that the caption does not mention or that lies beyond
            ``max_length`` in every range; a word outside ``vocabulary``; a tokenizer without offsets.
    """
    if not classes:
        raise ValueError("No classes were given; name at least one thing to look for.")
    named = [split_synonyms(entry) for entry in classes]
    extra = [split_synonyms(entry, "background phrase") for entry in background]
    _check_unique([word for _, words in (*named, *extra) for word in words])
    text = _write_text(named, extra, caption)
    if vocabulary is not None:
        check_vocabulary(text, vocabulary)

    ranges = text_ranges(text)
    spans = find_words(text, [word for _, words in (*named, *extra) for word in words])

    def locate(name: str, words: tuple[str, ...]) -> Concept:
        found = sorted(span for word in words for span in spans[word])
        if not found:
            raise ValueError(
                f"The caption does not mention {name!r}; add the word to the caption or leave the class out."
            )
        tokens = {token for each in ranges for span in found for token in tokens_in(span, each)}
        if not tokens:
            raise ValueError(
                f"The class {name!r} lies beyond the text encoder's limit of {max_length} tokens; "
                "name fewer classes or shorten the caption."
            )
        return Concept(name, words, tuple(sorted(tokens)))

    concepts = tuple(locate(*entry) for entry in named)
    rest = tuple(locate(*entry) for entry in extra)
    claimed = {token for concept in (*concepts, *rest) for token in concept.tokens}
    meaningful = {
        position
        for each in ranges
        for position, span in each.spans.items()
        if position < each.limit and not is_filler(text, span)
    }
    return Prompt(text, concepts, rest, tuple(sorted(claimed | meaningful)))


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


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def split_synonyms(entry: str, kind: str = "class") -> tuple[str, tuple[str, ...]]:
    """The name of a class written as ``person|man``, and all its words in small letters.

    Raises:
        ValueError: one of them is blank; the message calls it ``kind``.
    """
    parts = [" ".join(part.split()) for part in entry.split("|")]
    if not all(parts):
        raise ValueError(f"A {kind} is blank in {entry!r}; write each one as a word or as synonyms 'person|man'.")
    return parts[0], tuple(_normalise(part) for part in parts)


def _check_unique(words: Sequence[str]) -> None:
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise ValueError(
            f"{', '.join(map(repr, repeated))} is named more than once; every word can stand for one class only."
        )


def _write_text(
    named: Sequence[tuple[str, tuple[str, ...]]],
    extra: Sequence[tuple[str, tuple[str, ...]]],
    caption: str | None,
) -> str:
    if caption is None:
        return ", ".join(words[0] for _, words in (*named, *extra))
    text = _normalise(caption)
    spans = find_words(text, [word for _, words in (*named, *extra) for word in words])
    missing = [words[0] for _, words in extra if not any(spans[word] for word in words)]
    return ", ".join([text.rstrip(" .,"), *missing]) if missing else text


def check_vocabulary(text: str, vocabulary: Iterable[str]) -> None:
    """Raise ``ValueError`` for words that a model which knows only some phrases has never seen."""
    known = list(dict.fromkeys(vocabulary))
    words = {word for phrase in known for word in phrase.lower().split()}
    unknown = [word for word in dict.fromkeys(re.findall(r"\w+", text.lower())) if word not in words]
    if unknown:
        raise ValueError(
            f"This small model has never seen the word {', '.join(map(repr, unknown))}; it knows {', '.join(known)} "
            "(use a big model for photographs, e.g. --model sd15)."
        )


def tokens_in(span: Span, text: TextRange) -> list[int]:
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
