"""Words that textual inversion has added to a pipeline's tokenizers, each of which may be several tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from goca.notes import captured_messages
from goca.text.spans import TokenSpans, read_offsets


def learned_words(pipeline: Any) -> list[str]:
    """The words in their own spelling, longer ones first."""
    if not hasattr(pipeline, "maybe_convert_prompt"):
        return []
    tokenizers = [part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part]
    words = {word for each in tokenizers for word in each.get_added_vocab() if word not in each.all_special_tokens}
    return sorted(words, key=lambda word: (-len(word), word))


def respell(text: str, words: list[str]) -> str:
    """The text with the words in their own spelling where it has them in small letters."""
    spellings = {word.lower(): word for word in words} | {word: word for word in words}
    if not spellings:
        return text
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, spellings))})(?!\w)", lambda match: spellings[match[0]], text)


def read_expanded_offsets(pipeline: Any, tokenizer: Any, text: str, max_length: int) -> TokenSpans:
    """As :func:`goca.text.spans.read_offsets`; every token of a learned word stands for the whole word.

    Raises:
        ValueError: the pipeline rewrites the text in another way.
    """
    convert: Callable[..., str] | None = getattr(pipeline, "maybe_convert_prompt", None)
    with captured_messages():  # a text that is too long is refused later, in one sentence
        sent = text if convert is None else convert(text, tokenizer)
    if convert is None or sent == text:
        return read_offsets(tokenizer, text, max_length)
    added = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    origins: list[tuple[int, int]] = []
    written, start = "", 0
    for piece in re.split(f"({'|'.join(map(re.escape, added))})", text) if added else [text]:
        expanded = convert(piece, tokenizer) if piece in added else piece
        end = start + len(piece)
        letters = [(place, place + 1) for place in range(start, end)]
        origins += letters if expanded == piece else [(start, end)] * len(expanded)
        written, start = written + expanded, end
    if written != sent:
        raise ValueError(
            f"the pipeline gives its text encoder {sent[:60]!r} in place of {text[:60]!r}, in which goca cannot find "
            "the classes; take a pipeline that does not rewrite prompts"
        )
    found = read_offsets(tokenizer, sent, max_length)
    spans = {token: (origins[first][0], origins[last - 1][1]) for token, (first, last) in found.spans.items()}
    return TokenSpans(spans, found.limit, found.ids)
