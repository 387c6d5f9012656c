"""Singular and plural of the nouns that data sets name their classes by."""

from __future__ import annotations

import re
from collections.abc import Iterator

_IRREGULAR = (
    ("child", "children"),
    ("foot", "feet"),
    ("goose", "geese"),
    ("knife", "knives"),
    ("leaf", "leaves"),
    ("loaf", "loaves"),
    ("man", "men"),
    ("mouse", "mice"),
    ("person", "people"),
    ("scarf", "scarves"),
    ("shelf", "shelves"),
    ("tooth", "teeth"),
    ("wolf", "wolves"),
)


def number_forms(phrase: str) -> tuple[str, ...]:
    """A phrase in lower case, then with its last word in the other number: ``wine glass``, ``wine glasses``.

    Forms that English does not have (``sheeps``) may be among them; they match nothing.
    """
    head, space, last = phrase.rpartition(" ")
    return tuple(dict.fromkeys(head + space + form for form in (last, *_other_number(last))))


def _other_number(word: str) -> Iterator[str]:
    for singular, plural in _IRREGULAR:
        if word.endswith(singular):
            yield word.removesuffix(singular) + plural
        elif word.endswith(plural):
            yield word.removesuffix(plural) + singular
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        yield from _singulars(word)
    else:
        yield from _plurals(word)


def _plurals(word: str) -> Iterator[str]:
    if re.search(r"[^aeiou]y$", word):
        yield word[:-1] + "ies"
    elif re.search(r"(s|x|z|ch|sh)$", word):
        yield word + "es"
    else:
        yield word + "s"
        if word.endswith("o"):
            yield word + "es"


def _singulars(word: str) -> Iterator[str]:
    if re.search(r"[^aeiou]ies$", word):
        yield word[:-3] + "y"
    elif re.search(r"(ss|us|x|z|ch|sh|o)es$", word):
        yield word[:-2]
    if not re.search(r"(ss|x|z|ch|sh)es$", word):
        yield word[:-1]
