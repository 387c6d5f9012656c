"""The captions' grammar: nouns separated by commas, the parts of one thing in parentheses.

``(person, clothes), chair, store`` names three things; the first of them by two nouns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from goca.text.spans import STOP_WORDS

Group = tuple[str, ...]
MAX_WORDS = 4
MAX_NOUNS = 60


def parse(caption: str) -> list[Group]:
    """The things that a caption names, in order, in lower case, without articles.

    Every caption can be read: a parenthesis that is never closed ends with the caption, a stray closing one counts as a
    comma, and ``noun (part)`` is a group of both. See :func:`check_answer` for a strict reading.
    """
    groups: list[Group] = []
    group: list[str] = []
    inside = False
    for piece in re.findall(r"[(),]|[^(),]+", caption.lower().strip(" .\n\t")):
        if piece == "(":
            inside = True
        elif piece == ")" or (piece == "," and not inside):
            groups.append(tuple(group))
            group, inside = [], False
        elif piece != ",":
            group.append(_bare_noun(piece))
    groups.append(tuple(group))
    named = (tuple(noun for noun in group if noun) for group in groups)
    return [group for group in named if group]


def write(groups: Iterable[Group]) -> str:
    """The caption that names ``groups``; parentheses only around two nouns or more."""
    return ", ".join(group[0] if len(group) == 1 else f"({', '.join(group)})" for group in groups)


def check_answer(answer: str) -> str:
    """A model's answer as a caption in the grammar's plainest form.

    Raises:
        ValueError: the answer does not follow the grammar; the message says in what.
    """
    text = answer.strip().rstrip(". ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if not text:
        raise ValueError("the answer is empty")
    if "\n" in text:
        raise ValueError("the answer has several lines")
    if not re.fullmatch(r"[^()]*(\([^()]+\)[^()]*)*", text):
        raise ValueError("the answer's parentheses are nested, empty or not closed")
    if re.search(r"[^\s,(][^\S\n]*\(|\)[^\S\n]*[^\s,)]", text):
        raise ValueError("the answer lacks a comma between a noun and a parenthesis")
    groups = parse(text)
    nouns = [noun for group in groups for noun in group]
    for noun in nouns:
        if not re.fullmatch(r"[\w'-]+( [\w'-]+)*", noun) or len(noun.split()) > MAX_WORDS:
            raise ValueError(f"the answer holds {noun[:60]!r}, which is not a noun")
    if not nouns:
        raise ValueError("the answer names nothing")
    if len(nouns) > MAX_NOUNS:
        raise ValueError(f"the answer names more than {MAX_NOUNS} things")
    return write(dict.fromkeys(groups))


def _bare_noun(text: str) -> str:
    words = text.split()
    while words and words[0] in STOP_WORDS:
        words = words[1:]
    return " ".join(words)
