"""How the published code of GoCA (CVPR 2026) reads a caption and finds its tokens, to the letter, defects included.

Inferred from recordings of that code, which :mod:`goca.golden.alignment` repeats. The rule ``exact`` of
:mod:`goca.text.align` is better; this one is for comparison with the published numbers. Its defects:

- Only a group at the very beginning of a caption (or right behind another one, without a space) is read as a whole,
  up to its first closing parenthesis. ``(animal) grass`` is therefore two phrases there, and what a nested group leaves
  behind becomes phrases of stray commas: ``((a, b), c, d)`` is read as ``a, b``, ``c`` and ``, d``.
- Any other group is put together from the pieces between commas. A single noun in parentheses, ``sky, (tree), road``,
  opens a group that nothing closes: all up to the next opening parenthesis, or to the end, is lost.
- Phrases are compared as they are written, so ``(x)`` and ``x`` both stay.
- A phrase is looked up by its letters: its first occurrence counts, be it inside another word or in an earlier phrase,
  less the tokens that earlier phrases have.
- Stop words are compared with single tokens, so the ``an`` of ``can|an|oe`` counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from goca.text.grammar import Phrase
from goca.text.spans import TokenSpans

FindClass = Callable[[str], "int | None"]
STOP_TOKENS = frozenset({"", "a", "an", "the", "and", ",", ".", "-"})
_PIECE = re.compile(r"\([^)]*\)|[^,]+")


def published_phrases(
    caption: str,
    classes: Sequence[Sequence[str]],
    present: Iterable[int],
    *,
    append_missing: bool,
    append_background: bool,
) -> list[Phrase]:
    """The phrases of the published prompt, in order, each with the class that it stands for.

    A group is split where two of its nouns or more name classes of the image, be it the same class, and keeps only
    these nouns. Where classes share a word, the first of the image counts. Every missing class is appended by its first
    name, which may name an earlier class or stand in the text already.

    Args:
        caption: written by the published captioner, see :mod:`goca.text.grammar`.
        classes: synonyms per class.
        present: classes that the image has.
        append_missing: append the classes of the image that the caption does not name.
        append_background: append ", background" to the caption, before it is read.
    """
    wanted = sorted(present)
    find = _class_finder(classes, wanted)
    caption = caption.lower().strip(" .\n\t") + ", background" * append_background
    written = list(dict.fromkeys(part for each in read_phrases(caption) for part in _split(each, find)))
    if append_missing:
        # The order is that of CPython's set difference: by hash table slot, not by number (16 comes before 3).
        missing = set(wanted) - {index for each in written if (index := _class_of(each, find)) is not None}
        written += [classes[index][0].lower() for index in missing]
    return [Phrase(_nouns(each), _class_of(each, find)) for each in written]


def read_phrases(caption: str) -> list[str]:
    """The phrases of a caption in lower case; groups keep their parentheses."""
    phrases: list[str] = []
    group = ""
    for piece in _PIECE.findall(caption):
        phrase = piece.strip(" .\n\t")
        if piece.startswith("(") and piece.endswith(")"):  # a whole group, or what ends at one's own parenthesis
            phrases.append(phrase)
        elif "(" in phrase:
            group = phrase
        elif ")" in phrase:
            phrases.append(f"{group}, {phrase}")
            group = ""
        elif group:
            group += f", {phrase}"
        elif phrase:
            phrases.append(phrase)
    return phrases


def published_tokens(text: str, phrases: Sequence[Phrase], ranges: Sequence[TokenSpans]) -> list[tuple[int, ...]]:
    """The tokens of each phrase where its letters first occur in ``text``, less those of earlier phrases."""
    tokens: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for phrase in phrases:
        first = text.index(phrase.text)
        last = first + len(phrase.text)
        found = {
            position
            for each in ranges
            for position, (start, end) in each.spans.items()
            if start < last and first < end and position < each.limit and text[start:end].strip() not in STOP_TOKENS
        }
        tokens.append(tuple(sorted(found - taken)))
        taken |= found
    return tokens


def _class_finder(classes: Sequence[Sequence[str]], wanted: Iterable[int]) -> FindClass:
    known: dict[str, int] = {}
    for index in wanted:
        for word in classes[index]:
            known.setdefault(word.lower(), index)
    return known.get


def _nouns(phrase: str) -> tuple[str, ...]:
    return tuple(noun.strip() for noun in re.sub(r"[()]", "", phrase).split(","))


def _class_of(phrase: str, find: FindClass) -> int | None:
    return next((index for noun in _nouns(phrase) if (index := find(noun)) is not None), None)


def _split(phrase: str, find: FindClass) -> list[str]:
    """The nouns that name classes of the image where there are two or more, otherwise the phrase itself."""
    named = [noun for noun in _nouns(phrase) if find(noun) is not None]
    return named if len(named) > 1 else [phrase]
