"""The captions' grammar: nouns separated by commas, the parts of one thing in parentheses.

``(person, clothes), chair, store`` names three things; the first of them by two nouns. The commas, full stops and
parentheses of other scripts count as well.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import dropwhile

from goca.lookup import COMMAS
from goca.text.spans import FULL_STOPS, STOP_WORDS, in_word, is_punctuation, normalise

Group = tuple[str, ...]
MAX_WORDS = 4
MAX_NOUNS = 60
_PLAIN = str.maketrans(
    dict.fromkeys(COMMAS, ",") | {"\N{FULLWIDTH LEFT PARENTHESIS}": "(", "\N{FULLWIDTH RIGHT PARENTHESIS}": ")"}
)


@dataclass(frozen=True)
class Phrase:
    """One thing of a prompt: its nouns, and the class of a data set that it stands for, if any."""

    nouns: Group
    index: int | None

    @property
    def text(self) -> str:
        """The nouns as the prompt has them."""
        return ", ".join(self.nouns)


def parse(caption: str, *, names: Container[str] = ()) -> list[Group]:
    """The things that a caption names, in order, in lower case and composed Unicode, without articles.

    Every caption can be read: a parenthesis that is never closed ends with the caption, a stray closing one counts as a
    comma, and ``noun (part)`` is a group of both. See :func:`check_answer` for a strict reading.

    Args:
        names: nouns that contain "and", such as ``salt and pepper``; elsewhere that word is read as a comma.
    """
    groups: list[Group] = []
    group: list[str] = []
    inside = False
    for piece in re.findall(r"[(),]|[^(),]+", _plain(caption)):
        if piece == "(":
            inside = True
        elif piece == ")" or (piece == "," and not inside):
            groups.append(tuple(group))
            group, inside = [], False
        elif piece != ",":
            nouns = _nouns(piece, names)
            if not inside:
                groups += [(noun,) for noun in nouns[:-1]]
                nouns = nouns[-1:]
            group += nouns
    groups.append(tuple(group))
    return [group for group in groups if group]


def write(groups: Iterable[Group]) -> str:
    """The caption that names ``groups``; parentheses only around two nouns or more."""
    return ", ".join(group[0] if len(group) == 1 else f"({', '.join(group)})" for group in groups)


def check_answer(answer: str) -> str:
    """A model's answer as a caption in the grammar's plainest form.

    Raises:
        ValueError: the answer does not follow the grammar; the message says in what.
    """
    if "\n" in answer.strip():
        raise ValueError("the answer has several lines")
    text = _plain(answer).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if not text:
        raise ValueError("the answer is empty")
    if not re.fullmatch(r"[^()]*(\([^()]+\)[^()]*)*", text):
        raise ValueError("the answer's parentheses are nested, empty or not closed")
    if re.search(r"[^\s,(][^\S\n]*\(|\)[^\S\n]*[^\s,)]", text):
        raise ValueError("the answer lacks a comma between a noun and a parenthesis")
    groups = parse(text)
    nouns = [noun for group in groups for noun in group]
    for noun in nouns:
        if not all(in_word(letter) or letter in "'- " for letter in noun) or len(noun.split()) > MAX_WORDS:
            raise ValueError(f"the answer holds {noun[:60]!r}, which is not a noun")
    if not nouns:
        raise ValueError("the answer names nothing")
    if len(nouns) > MAX_NOUNS:
        raise ValueError(f"the answer names more than {MAX_NOUNS} things")
    return write(dict.fromkeys(groups))


def _plain(text: str) -> str:
    """Small letters, single spaces, ASCII commas and parentheses, no full stop at the end."""
    return normalise(text).translate(_PLAIN).strip(f" {FULL_STOPS}")


def _nouns(text: str, names: Container[str]) -> list[str]:
    """The nouns between two commas, without their articles; punctuation alone is none."""
    whole = _bare_noun(text)
    parts = [whole] if whole in names else [_bare_noun(part) for part in re.split(r"(?<!\S)and(?!\S)", whole)]
    return [part for part in parts if not is_punctuation(part)]


def _bare_noun(text: str) -> str:
    return " ".join(dropwhile(STOP_WORDS.__contains__, text.split()))
