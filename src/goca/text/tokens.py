"""Which of a prompt's tokens can have a region of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from goca.text.spans import STOP_WORDS, TokenSpans


@runtime_checkable
class TextEncoder(Protocol):
    """The part of :class:`goca.backbones.Backbone` that tells where the tokens of a text are."""

    @property
    def max_tokens(self) -> int:
        """Tokens that the text encoder takes, special ones included."""

    def token_spans(self, text: str) -> Sequence[TokenSpans]:
        """The tokens of each of the model's text encoders."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt's tokens by their position among those that the image looks at.

    Attributes:
        words: the text of every token that is not special.
        end: the token behind the last of them, ``</s>`` of T5.
    """

    text: str
    words: dict[int, str]
    end: int

    @property
    def content_tokens(self) -> tuple[int, ...]:
        """Tokens that are not special."""
        return tuple(self.words)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Tokens that get a region: the first of all, special or not, and those that are not special."""
        return tuple(sorted({0, *self.words}))

    @property
    def has_start(self) -> bool:
        """Whether the first token is special, like ``<sos>`` of CLIP, and so stands for nothing in the image."""
        return 0 not in self.words

    @property
    def names_something(self) -> bool:
        """Whether there is a word beside articles and "and"."""
        return bool(set(re.findall(r"\w+", self.text.lower())) - STOP_WORDS)

    def shifted(self, places: int) -> PromptTokens:
        """The same tokens ``places`` later."""
        return replace(self, words={token + places: word for token, word in self.words.items()}, end=self.end + places)


def read_prompt(encoder: TextEncoder, text: str) -> PromptTokens:
    """Find the tokens of a text.

    Raises:
        ValueError: a text that no encoder of the model can take whole.
    """
    ranges = encoder.token_spans(text)
    if not any(fits(each) for each in ranges):
        count = max(len(each.spans) for each in ranges)
        raise ValueError(
            f"the prompt {shorten(text)!r} has {count} tokens, which is longer than the text encoder's limit of "
            f"{encoder.max_tokens} (special ones included); shorten it"
        )
    words = {
        token: text[slice(*span)].strip()
        for each in ranges
        for token, span in sorted(each.spans.items())
        if token < each.limit
    }
    return PromptTokens(text, words, max(words, default=0) + 1)


def fits(text: TokenSpans) -> bool:
    """Whether truncation takes no token away."""
    return max(text.spans, default=-1) < text.limit


def shorten(text: str, length: int = 40) -> str:
    """A text for a message."""
    return text if len(text) <= length else text[: length - 3] + "..."
