"""A caption becomes a prompt whose tokens know which class of a data set they name.

Two rules. ``exact`` is the project's own: the caption is parsed, each phrase keeps the place where it stands, and a
class takes all places that name it, in the singular or the plural. ``published`` does what the published code does with
its captions (GoCA, CVPR 2026), defects included; see :func:`parse_published` and :func:`place_published`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from goca.text.grammar import Group, parse
from goca.text.plurals import number_forms
from goca.text.spans import Span, TokenSpans, is_filler, tokens_in
from goca.types import Concept, Prompt

BACKGROUND = "background"
Rule = Literal["exact", "published"]
FindClass = Callable[[str], "int | None"]


@dataclass(frozen=True)
class Aligned:
    """A caption's prompt in terms of a data set.

    Attributes:
        prompt: text and tokens; phrases that name no class of the image are its background.
        indices: the data set's class of each of ``prompt.classes``.
        missing: classes of the image that have no token: nobody named them, or they lie beyond the tokenizer's limit.
    """

    prompt: Prompt
    indices: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """One thing of the text: its nouns, the class it stands for if any, and where each noun stands."""

    nouns: Group
    index: int | None
    spans: tuple[Span, ...] = ()

    @property
    def text(self) -> str:
        """The nouns as the text has them."""
        return ", ".join(self.nouns)


def align(
    caption: str,
    classes: Sequence[Sequence[str]],
    present: Collection[int],
    token_spans: Callable[[str], Sequence[TokenSpans]],
    *,
    max_length: int,
    append_missing: bool,
    append_background: bool,
    rule: Rule = "exact",
) -> Aligned:
    """Align a caption with the classes of a data set.

    A group that names two classes or more is split and keeps only these; otherwise the whole group stands for the one
    class it names. What names no class of the image is background.

    Args:
        caption: see :mod:`goca.text.grammar`.
        classes: synonyms per class; none for the background.
        present: classes that the image has; no other can be found.
        token_spans: tells where the tokens of a text are, see :meth:`goca.backbones.Backbone.token_spans`.
        max_length: longest text of the model in tokens, special ones included.
        append_missing: append the classes of the image that the caption does not name.
        append_background: append the phrase "background".

    Raises:
        ValueError: a class in ``present`` that the data set does not have, or nothing in the text lies within
            ``max_length``.
    """
    unknown = sorted(index for index in present if not 0 <= index < len(classes))
    if unknown:
        raise ValueError(f"class {unknown[0]} is not in the data set, whose classes are 0 to {len(classes) - 1}")
    wanted = [index for index in sorted(present) if classes[index]]
    exact = rule == "exact"
    find = class_finder(classes, wanted, plurals=exact)
    if exact:
        groups = [_without_background(group) for group in parse(caption)]
        units = split_groups([*groups, (BACKGROUND,)] if append_background else groups, find)
    else:
        units = split_groups(parse_published(f"{caption}, {BACKGROUND}" if append_background else caption), find)
    if append_missing:
        named = {unit.index for unit in units}
        units += [Unit((classes[index][0].lower(),), index) for index in wanted if index not in named]
    units = [unit if unit.index in wanted else replace(unit, index=None) for unit in units]

    text = ", ".join(unit.text for unit in units)
    ranges = token_spans(text)
    tokens = (place_exact if exact else place_published)(text, units, ranges)
    content = tuple(sorted({token for found in tokens for token in found}))
    if not content:
        raise ValueError(
            f"nothing in the caption {caption!r} lies within the text encoder's {max_length} tokens; write another one"
        )
    return _gather(text, units, tokens, content, classes, wanted)


def class_finder(classes: Sequence[Sequence[str]], wanted: Sequence[int], *, plurals: bool) -> FindClass:
    """What tells the class that a phrase names, or ``None``.

    Where several classes share a word, the first of ``wanted`` counts, then the first of all; with ``plurals``, the
    word itself counts before its singular or plural.
    """
    known: dict[str, int] = {}
    absent = [index for index in range(len(classes)) if index not in wanted]
    for indices in (wanted, absent):
        words = [(word.lower(), index) for index in indices for word in classes[index]]
        for word, index in words:
            known.setdefault(word, index)
        for word, index in words if plurals else ():
            for form in number_forms(word):
                known.setdefault(form, index)
    return known.get


def split_groups(groups: Iterable[Group], find: FindClass) -> list[Unit]:
    """Groups as units of the text, each of them once."""
    units: dict[Group, Unit] = {}
    for group in groups:
        named = {noun: index for noun in group if (index := find(noun)) is not None}
        if len(set(named.values())) > 1:
            units |= {(noun,): Unit((noun,), index) for noun, index in named.items() if (noun,) not in units}
        else:
            units.setdefault(group, Unit(group, next(iter(named.values()), None)))
    return list(units.values())


def parse_published(caption: str) -> list[Group]:
    """Read a caption as the published code does.

    At each comma a phrase with an opening parenthesis starts a group and a later one with a closing parenthesis ends
    it. A single noun in parentheses therefore starts a group that nothing ends, and all up to the next group is lost,
    unless the caption begins with it.
    """
    phrases = [phrase.strip(" .") for phrase in caption.lower().split(",")]
    if phrases[0].startswith("(") and phrases[0].endswith(")"):
        phrases[0] = phrases[0].strip("()")
    groups: list[Group] = []
    group: list[str] | None = None
    for phrase in phrases:
        if "(" in phrase:
            group = [phrase.replace("(", "")]
        elif group is None:
            groups.append((phrase.replace(")", ""),))
        else:
            group.append(phrase.replace(")", ""))
            if ")" in phrase:
                groups.append(tuple(group))
                group = None
    return [group for group in groups if any(group)]


def place_exact(text: str, units: Sequence[Unit], ranges: Sequence[TokenSpans]) -> list[tuple[int, ...]]:
    """Tokens of each unit at its own place; a noun that truncation cuts has none."""
    tokens, start = [], 0
    for unit in units:
        found: set[int] = set()
        for noun in unit.nouns:
            for each in ranges:
                found.update(_content(text, each, tokens_in((start, start + len(noun)), each)))
            start += len(noun) + len(", ")
        tokens.append(tuple(sorted(found)))
    return tokens


def place_published(text: str, units: Sequence[Unit], ranges: Sequence[TokenSpans]) -> list[tuple[int, ...]]:
    """Tokens of each unit where its letters first occur in the text, be it inside another word, less the tokens that an
    earlier unit has."""
    tokens: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for unit in units:
        start = text.index(unit.text)
        span = (start, start + len(unit.text))
        found = {token for each in ranges for token in _content(text, each, _overlap(span, each))} - taken
        taken |= found
        tokens.append(tuple(sorted(found)))
    return tokens


def _without_background(group: Group) -> Group:
    """``(background, people)`` names people: the word says where, not what."""
    return tuple(noun for noun in group if noun != BACKGROUND) or (BACKGROUND,)


def _overlap(span: Span, text: TokenSpans) -> Iterator[int]:
    for position, (start, end) in text.spans.items():
        if start < span[1] and span[0] < end and position < text.limit:
            yield position


def _content(text: str, each: TokenSpans, tokens: Iterable[int]) -> list[int]:
    return [token for token in tokens if not is_filler(text, each.spans[token])]


def _gather(
    text: str,
    units: Sequence[Unit],
    tokens: Sequence[tuple[int, ...]],
    content: tuple[int, ...],
    classes: Sequence[Sequence[str]],
    wanted: Sequence[int],
) -> Aligned:
    """Units of one class become one concept; units without tokens are left out."""
    concepts: dict[int, Concept] = {}
    background = []
    for unit, found in zip(units, tokens, strict=True):
        if not found:
            continue
        if unit.index is None:
            background.append(Concept(unit.text, unit.nouns, found))
            continue
        concept = concepts.get(unit.index, Concept(classes[unit.index][0], (), ()))
        concepts[unit.index] = replace(
            concept,
            words=tuple(dict.fromkeys((*concept.words, *unit.nouns))),
            tokens=tuple(sorted({*concept.tokens, *found})),
        )
    prompt = Prompt(text, tuple(concepts.values()), tuple(background), content)
    return Aligned(prompt, tuple(concepts), tuple(index for index in wanted if index not in concepts))
