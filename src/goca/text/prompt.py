"""Classes or a caption become a text, together with which of its tokens mean what.

Words are found in the text by their boundaries and mapped to tokens through the tokenizer's own offsets, so that "car"
never lands on "carpet" and every token of "fire engine" counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from goca.text.spans import COMMAS, FULL_STOPS, TokenSpans, find_words, is_filler, normalise, tokens_in
from goca.types import Concept, Prompt


def build_prompt(
    classes: Sequence[str],
    token_spans: Callable[[str], Sequence[TokenSpans]],
    *,
    caption: str | None = None,
    background: Sequence[str] = (),
    vocabulary: Iterable[str] | None = None,
    max_length: int,
) -> Prompt:
    """Write the text for some classes, or find them in a caption, and align both with the tokens.

    Args:
        classes: one string per class, synonyms separated by ``|``; the first is its name.
        token_spans: tells where the tokens of a text are, see :meth:`goca.backbones.Backbone.token_spans`; a class
            gets its tokens in every range.
        caption: text that mentions every class; by default the classes' names and the background phrases, joined by
            commas. Background phrases that it does not mention are appended.
        background: phrases that stand for everything else, written like classes.
        vocabulary: phrases an embedded model knows; ``None`` for a model that knows any word.
        max_length: longest text of the model in tokens, special ones included.

    Returns:
        the prompt; its text is in lower case, its token positions count special tokens too.

    Raises:
        ValueError: no classes; a blank or repeated one; one that the caption does not mention or that lies beyond
            ``max_length`` in every range; a word outside ``vocabulary``; a tokenizer without offsets.
    """
    if not classes:
        raise ValueError("No classes were given; name at least one thing to look for.")
    named = [split_synonyms(entry) for entry in classes]
    extra = [split_synonyms(entry, "background phrase") for entry in background]
    _check_unique([word for _, words in (*named, *extra) for word in words])
    text = _write_text(named, extra, caption)
    if vocabulary is not None:
        check_vocabulary(text, vocabulary)

    ranges = token_spans(text)
    spans = find_words(text, [word for _, words in (*named, *extra) for word in words])

    def locate(name: str, words: tuple[str, ...]) -> Concept:
        found = sorted(span for word in words for span in spans[word])
        if not found:
            raise ValueError(
                f"The caption does not mention {name!r}; add the word to the caption or leave the class out."
            )
        tokens = {token for each in ranges for span in found for token in tokens_in(span, each)}
        if not tokens:
            raise ValueError(
                f"The class {name!r} lies beyond the text encoder's limit of {max_length} tokens; "
                "name fewer classes or shorten the caption."
            )
        return Concept(name, words, tuple(sorted(tokens)))

    concepts = tuple(locate(*entry) for entry in named)
    rest = tuple(locate(*entry) for entry in extra)
    claimed = {token for concept in (*concepts, *rest) for token in concept.tokens}
    meaningful = {
        position
        for each in ranges
        for position, span in each.spans.items()
        if position < each.limit and not is_filler(text, span)
    }
    return Prompt(text, concepts, rest, tuple(sorted(claimed | meaningful)))


def split_synonyms(entry: str, kind: str = "class") -> tuple[str, tuple[str, ...]]:
    """The name of a class written as ``person|man``, and all its words in small letters.

    Raises:
        ValueError: one of them is blank; the message calls it ``kind``.
    """
    parts = [" ".join(part.split()) for part in entry.split("|")]
    if not all(parts):
        raise ValueError(f"A {kind} is blank in {entry!r}; write each one as a word or as synonyms 'person|man'.")
    return parts[0], tuple(normalise(part) for part in parts)


def _check_unique(words: Sequence[str]) -> None:
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise ValueError(
            f"{', '.join(map(repr, repeated))} is named more than once; every word can stand for one class only."
        )


def _write_text(
    named: Sequence[tuple[str, tuple[str, ...]]],
    extra: Sequence[tuple[str, tuple[str, ...]]],
    caption: str | None,
) -> str:
    if caption is None:
        return ", ".join(words[0] for _, words in (*named, *extra))
    text = normalise(caption)
    spans = find_words(text, [word for _, words in (*named, *extra) for word in words])
    missing = [words[0] for _, words in extra if not any(spans[word] for word in words)]
    return ", ".join([text.rstrip(f" {COMMAS}{FULL_STOPS}"), *missing]) if missing else text


def check_vocabulary(text: str, vocabulary: Iterable[str]) -> None:
    """Raise ``ValueError`` for words that a model which knows only some phrases has never seen."""
    known = list(dict.fromkeys(vocabulary))
    words = {word for phrase in known for word in phrase.lower().split()}
    unknown = [word for word in dict.fromkeys(re.findall(r"\w+", text.lower())) if word not in words]
    if unknown:
        raise ValueError(
            f"This small model has never seen the word {', '.join(map(repr, unknown))}; it knows {', '.join(known)} "
            "(use a big model for photographs, e.g. --model sd15)."
        )
