"""Text from files, servers and users as it may be shown: on one line, without control characters, of a sane length."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

LONGEST_NAME = 80
LONGEST_LIST = 200
LONGEST_SENTENCE = 600
_JOINERS = "\u200c\u200d"  # parts of words and of emoji


def visible(text: str) -> str:
    """The text with escapes (``\\x1b``, ``\\n``, ``\\u202e``) for characters that steer a terminal or cannot be seen.

    These are control characters, line ends, marks that turn the direction of writing, other invisible ones, and the
    halves of surrogate pairs by which Python writes file names that are no text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(each) if is_hidden(each) else each for each in text)


def shorten(text: str, limit: int = LONGEST_NAME) -> str:
    """The text, with dots in place of its middle where it has more than ``limit`` characters."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"


def one_line(text: str, limit: int = LONGEST_SENTENCE) -> str:
    """The text on one line of at most about ``limit`` characters, see :func:`visible`; its own line ends are blanks."""
    line = shorten(" ".join(text.split()), limit)
    return shorten(visible(line), limit)


def sentence(error: BaseException) -> str:
    """The message of an error on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return one_line(f"{shorten(visible(str(error.filename)), LONGEST_SENTENCE // 2)}: {error.strerror}")
    return one_line(str(error)) or type(error).__name__


def first_names(names: Sequence[str], count: int = 3) -> str:
    """The first names, and dots where there are more."""
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")


def is_hidden(character: str) -> bool:
    """Whether a character steers a terminal or cannot be seen."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
