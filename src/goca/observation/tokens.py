"""What each token of a prompt is: special, content or stuff; and which tokens a word has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goca.text.spans import Span, TokenSpans, find_words, in_word, normalise, tokens_in
from goca.types import Prompt

ROLES = ("special", "content", "stuff")
"""Kinds of tokens, in the order in which shares of the attention are given.

``special`` tokens stand for no text: begin, end, padding, a pipeline's own template. ``content`` tokens are those of
the prompt's things, over which equation 10 rescales (:attr:`goca.types.Prompt.content_tokens`): the words of classes
and background phrases, and a caption's other words but articles and "and". ``stuff`` tokens are the rest of the text:
commas, full stops, articles, "and".
"""


@dataclass(frozen=True)
class Token:
    """One token of the text as the image sees it.

    Attributes:
        position: among all tokens of the model's text encoder or encoders, counted from 0.
        text: the part of the prompt that it stands for; of a special token the tokenizer's name for it, or
            ``"<special>"`` where that cannot be told.
        role: one of :data:`ROLES`.
        concept: name of the class or background phrase that it belongs to, if any.
        span: first and last (exclusive) character in the prompt; ``None`` for special tokens.
    """

    position: int
    text: str
    role: str
    concept: str | None = None
    span: Span | None = None


def text_positions(ranges: Sequence[TokenSpans]) -> tuple[int, ...]:
    """Positions of the tokens that are not special and that truncation leaves, ascending."""
    return tuple(sorted({at for each in ranges for at in each.spans if at < each.limit}))


def describe_tokens(
    prompt: Prompt, ranges: Sequence[TokenSpans], count: int, special_names: Mapping[int, str] | None = None
) -> tuple[Token, ...]:
    """All ``count`` tokens that the image looks at.

    Args:
        ranges: where the prompt's words are among them, see :meth:`goca.backbones.Backbone.token_spans`.
        special_names: of special tokens by position, see :func:`name_special_tokens`.
    """
    names = special_names or {}
    spans = {at: span for each in ranges for at, span in each.spans.items() if at < each.limit}
    concepts = {at: concept.name for concept in (*prompt.classes, *prompt.background) for at in concept.tokens}

    def describe(position: int) -> Token:
        if position not in spans:
            return Token(position, names.get(position, "<special>"), "special")
        span = spans[position]
        role = "content" if position in prompt.content_tokens else "stuff"
        return Token(position, prompt.text[slice(*span)].strip(), role, concepts.get(position), span)

    return tuple(map(describe, range(count)))


def name_special_tokens(tokenizer: Any, text: str, ranges: Sequence[TokenSpans], count: int) -> dict[int, str]:
    """The tokenizer's names of special tokens by position.

    Empty where its own encoding of the text is not what the image sees (several text encoders, a template around the
    text, padding on the left), or where it reports no offsets.
    """
    if len(ranges) != 1 or not getattr(tokenizer, "is_fast", False):
        return {}
    encoding = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=count, verbose=False)
    pieces, offsets = tokenizer.convert_ids_to_tokens(encoding["input_ids"]), encoding["offset_mapping"]
    spans = {at: span for at, span in ranges[0].spans.items() if at < len(pieces)}
    if spans != {at: tuple(span) for at, span in enumerate(offsets) if span[0] < span[1]}:
        return {}
    padding = [tokenizer.pad_token or "<padding>"] * (count - len(pieces))
    return {at: piece for at, piece in enumerate([*pieces, *padding]) if at not in spans}


def find_tokens(text: str, tokens: Iterable[Token], word: str) -> tuple[int, ...]:
    """Positions of the tokens of a word or phrase, wherever it stands in the prompt.

    Raises:
        ValueError: the prompt has no such word, or truncation takes it away.
    """
    tokens = tuple(tokens)
    spans = {token.position: token.span for token in tokens if token.span is not None}
    whole = TokenSpans(spans, len(tokens))
    phrase = normalise(word)
    found = sorted({at for span in find_words(text, [phrase])[phrase] for at in tokens_in(span, whole)})
    if not phrase or not found:
        raise ValueError(f"the prompt has no word {word!r}; its words are {', '.join(list_words(text, tokens))}")
    return tuple(found)


def list_words(text: str, tokens: Iterable[Token]) -> dict[str, tuple[int, ...]]:
    """Classes, background phrases and the prompt's other content words, in order, each with its tokens."""
    content = [token for token in tokens if token.role == "content"]
    words: dict[str, tuple[int, ...]] = {}
    for token in content:
        name = token.concept or _word_around(text, token.span or (0, 0))
        words[name] = (*words.get(name, ()), token.position)
    return words


def _word_around(text: str, span: Span) -> str:
    """The whole word that a token is a part of."""
    first, last = span
    while first > 0 and in_word(text[first - 1]) and in_word(text[first]):
        first -= 1
    while last < len(text) and in_word(text[last]) and in_word(text[last - 1]):
        last += 1
    return text[first:last].strip()
