"""A caption becomes a prompt whose tokens know which class of a data set they name.

Two rules. ``exact`` is the project's own: the caption is parsed, each phrase keeps the place where it stands, and a
class takes all places that name it, in the singular or the plural. ``published`` does what the published code does with
its captions (GoCA, CVPR 2026), defects included; see :mod:`goca.text.published`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from goca.classes import BACKGROUND
from goca.text.grammar import Group, Phrase, parse
from goca.text.plurals import number_forms
from goca.text.published import published_phrases, published_tokens
from goca.text.spans import TokenSpans, is_filler, normalise, tokens_in
from goca.types import Concept, Prompt

Rule = Literal["exact", "published"]


class EmptyPrompt(ValueError):
    """A caption of which nothing is left."""


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
        EmptyPrompt: nothing in the text lies within ``max_length``. ValueError: a class in ``present`` that the data
            set does not have.
    """
    unknown = sorted(index for index in present if not 0 <= index < len(classes))
    if unknown:
        raise ValueError(f"class {unknown[0]} is not in the data set, whose classes are 0 to {len(classes) - 1}")
    wanted = [index for index in sorted(present) if classes[index]]
    find_phrases = exact_phrases if rule == "exact" else published_phrases
    phrases = find_phrases(caption, classes, wanted, append_missing=append_missing, append_background=append_background)
    text = ", ".join(phrase.text for phrase in phrases)
    ranges = token_spans(text)
    tokens = (exact_tokens if rule == "exact" else published_tokens)(text, phrases, ranges)
    content = tuple(sorted({token for found in tokens for token in found}))
    if not content:
        raise EmptyPrompt(
            f"nothing in the caption {caption!r} lies within the text encoder's {max_length} tokens; write another one"
        )
    return _gather(text, phrases, tokens, content, classes, wanted)


def exact_phrases(
    caption: str,
    classes: Sequence[Sequence[str]],
    present: Sequence[int],
    *,
    append_missing: bool,
    append_background: bool,
) -> list[Phrase]:
    """The phrases of the prompt, each of them once, with the class of the image that it stands for.

    Classes that the caption does not name are appended last, after the background.
    """
    known = class_words(classes, present)
    groups = [_without_background(group) for group in parse(caption, names=known)]
    phrases = split_groups([*groups, (BACKGROUND,)] if append_background else groups, known)
    if append_missing:
        named = {phrase.index for phrase in phrases}
        phrases += [Phrase((normalise(classes[index][0]),), index) for index in present if index not in named]
    return [phrase if phrase.index in present else replace(phrase, index=None) for phrase in phrases]


def class_words(classes: Sequence[Sequence[str]], present: Sequence[int]) -> dict[str, int]:
    """The class that each word names, in the singular and the plural.

    Where several classes share a word, the first of ``present`` counts, then the first of all; the word itself counts
    before its singular or plural.
    """
    known: dict[str, int] = {}
    absent = [index for index in range(len(classes)) if index not in present]
    for indices in (present, absent):
        words = [(normalise(word), index) for index in indices for word in classes[index]]
        for word, index in words:
            known.setdefault(word, index)
        for word, index in words:
            for form in number_forms(word):
                known.setdefault(form, index)
    return known


def split_groups(groups: Iterable[Group], known: Mapping[str, int]) -> list[Phrase]:
    """Groups as phrases of the text, each of them once."""
    phrases: dict[Group, Phrase] = {}
    for group in groups:
        named = {noun: known[noun] for noun in group if noun in known}
        if len(set(named.values())) > 1:
            for noun, index in named.items():
                phrases.setdefault((noun,), Phrase((noun,), index))
        else:
            phrases.setdefault(group, Phrase(group, next(iter(named.values()), None)))
    return list(phrases.values())


def exact_tokens(text: str, phrases: Sequence[Phrase], ranges: Sequence[TokenSpans]) -> list[tuple[int, ...]]:
    """Tokens of each phrase at its own place; a noun that truncation cuts has none."""
    tokens, start = [], 0
    for phrase in phrases:
        found: set[int] = set()
        for noun in phrase.nouns:
            for each in ranges:
                places = tokens_in((start, start + len(noun)), each)
                found.update(token for token in places if not is_filler(text, each.spans[token]))
            start += len(noun) + len(", ")
        tokens.append(tuple(sorted(found)))
    return tokens


def _without_background(group: Group) -> Group:
    """``(background, people)`` names people: the word says where, not what."""
    return tuple(noun for noun in group if noun != BACKGROUND) or (BACKGROUND,)


def _gather(
    text: str,
    phrases: Sequence[Phrase],
    tokens: Sequence[tuple[int, ...]],
    content: tuple[int, ...],
    classes: Sequence[Sequence[str]],
    wanted: Sequence[int],
) -> Aligned:
    """Phrases of one class become one concept; phrases without tokens are left out."""
    concepts: dict[int, Concept] = {}
    background = []
    for phrase, found in zip(phrases, tokens, strict=True):
        if not found:
            continue
        if phrase.index is None:
            background.append(Concept(phrase.text, phrase.nouns, found))
            continue
        concept = concepts.get(phrase.index, Concept(classes[phrase.index][0], (), ()))
        concepts[phrase.index] = replace(
            concept,
            words=tuple(dict.fromkeys((*concept.words, *phrase.nouns))),
            tokens=tuple(sorted({*concept.tokens, *found})),
        )
    prompt = Prompt(text, tuple(concepts.values()), tuple(background), content)
    return Aligned(prompt, tuple(concepts), tuple(index for index in wanted if index not in concepts))
