"""Classes or a caption become a text, together with which of its tokens mean what.

Words are found in the text by their boundaries and mapped to tokens through the tokenizer's own offsets, so that "car"
never lands on "carpet" and every token of "fire engine" counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from goca.lookup import COMMAS, Names, read_names
from goca.messages import LONGEST_LIST, shorten
from goca.text.spans import FULL_STOPS, TokenSpans, find_words, is_filler, is_punctuation, normalise, tokens_in
from goca.types import Concept, Prompt


@dataclass(frozen=True)
class Entry:
    """One thing that a user names.

    Attributes:
        name: what it is called, in the user's spelling.
        words: all its synonyms in small letters, its name first.
    """

    name: str
    words: tuple[str, ...]


def build_prompt(
    classes: Names,
    token_spans: Callable[[str], Sequence[TokenSpans]],
    *,
    caption: str | None = None,
    background: Names = (),
    vocabulary: Iterable[str] | None = None,
    max_length: int,
) -> Prompt:
    """Write the text for some classes, or find them in a caption, and align both with the tokens.

    All synonyms of a class count: each is looked for in the text, and the class takes the mean over the tokens of those
    that stand there. (Their pixel-wise maximum is as good or worse by a point, see docs/log.md.)

    Args:
        classes: one string per class, synonyms separated by ``|``; the first is its name. One string for all of them
            separates them by commas.
        token_spans: tells where the tokens of a text are, see :meth:`goca.backbones.Backbone.token_spans`; a class
            gets its tokens in every range.
        caption: text that mentions every class by one of its synonyms at least; by default all synonyms of the classes
            and background phrases, joined by commas. Background phrases that it does not mention are appended.
        background: phrases that stand for everything else, written like classes.
        vocabulary: phrases an embedded model knows; ``None`` for a model that knows any word. Of a class's synonyms the
            unknown ones are left out where it has a known one.
        max_length: longest text of the model in tokens, special ones included.

    Returns:
        the prompt; its text is in lower case, its token positions count special tokens too.

    Raises:
        ValueError: no classes, or what is neither a list of names nor a string; a blank or repeated one, or one of
            punctuation alone; one that the caption does not mention; a word that lies beyond ``max_length`` in every
            range; a word outside ``vocabulary``; a tokenizer without offsets.
    """
    named = [read_entry(entry) for entry in read_names(classes, "class")]
    extra = [read_entry(entry, "background phrase") for entry in read_names(background, "background")]
    if not named:
        raise ValueError("No classes were given; name at least one thing to look for.")
    _check_unique([word for entry in (*named, *extra) for word in entry.words])
    text = _write_text(named, extra, caption, None if vocabulary is None else list(vocabulary))
    if vocabulary is not None:
        check_vocabulary(text, vocabulary)

    ranges = token_spans(text)
    spans = find_words(text, [word for entry in (*named, *extra) for word in entry.words])

    def locate(entry: Entry) -> Concept:
        places = {word: spans[word] for word in entry.words if spans[word]}
        if not places:
            raise ValueError(
                f"The caption does not mention {shorten(entry.name)!r}; "
                "add the word to the caption or leave the class out."
            )
        tokens: dict[str, set[int]] = {}
        for word, found in places.items():
            tokens[word] = _tokens_at(found, text, ranges)
            if caption is None and not tokens[word]:
                break
        cut = next((word for word, found in tokens.items() if not found), None)
        if cut is not None and (caption is None or not any(tokens.values())):
            name = shorten(entry.name)
            which = f"class {name!r}" if cut == entry.words[0] else f"word {shorten(cut)!r} of the class {name!r}"
            raise ValueError(
                f"The {which} lies beyond the text encoder's limit of {max_length} tokens; "
                "name fewer classes and synonyms, or shorten the caption."
            )
        return Concept(entry.name, entry.words, tuple(sorted(set().union(*tokens.values()))))

    concepts = tuple(map(locate, named))
    rest = tuple(map(locate, extra))
    claimed = {token for concept in (*concepts, *rest) for token in concept.tokens}
    meaningful = {
        position
        for each in ranges
        for position, span in each.spans.items()
        if position < each.limit and not is_filler(text, span)
    }
    return Prompt(text, concepts, rest, tuple(sorted(claimed | meaningful)))


def read_entry(entry: str, kind: str = "class") -> Entry:
    """A class written as ``person|man``.

    Raises:
        ValueError: one of its words is blank or punctuation; the message calls it ``kind``.
    """
    parts = tuple(" ".join(part.split()) for part in entry.split("|"))
    if not all(parts):
        raise ValueError(
            f"A {kind} is blank in {shorten(entry)!r}; write each one as a word or as synonyms 'person|man'."
        )
    for part in parts:
        if is_punctuation(part):
            raise ValueError(f"The {kind} {shorten(part)!r} is punctuation, which names nothing; write a word.")
    return Entry(parts[0], tuple(normalise(part) for part in parts))


def mentioned_classes(classes: Names, text: str) -> list[str]:
    """Those classes (synonyms separated by ``|``) that a prompt or caption mentions.

    Raises:
        ValueError: none of them.
    """
    text = normalise(text)
    words = {entry: read_entry(entry).words for entry in read_names(classes, "class")}
    spans = find_words(text, [word for group in words.values() for word in group])
    found = [entry for entry, group in words.items() if any(spans[word] for word in group)]
    if not found:
        raise ValueError("the text mentions none of the classes")
    return found


def _tokens_at(places: Sequence[tuple[int, int]], text: str, ranges: Sequence[TokenSpans]) -> set[int]:
    """The tokens of a word at all its places; articles and punctuation in it count only where it is nothing else."""
    found = {
        token: is_filler(text, each.spans[token])
        for each in ranges
        for place in places
        for token in tokens_in(place, each)
    }
    return {token for token, filler in found.items() if not filler} or set(found)


def _quoted(words: Sequence[str]) -> str:
    return shorten(", ".join(map(repr, words)), LONGEST_LIST)


def _check_unique(words: Sequence[str]) -> None:
    repeated = sorted(word for word, count in Counter(words).items() if count > 1)
    if repeated:
        raise ValueError(f"{_quoted(repeated)} is named more than once; every word can stand for one class only.")


def _write_text(
    named: Sequence[Entry], extra: Sequence[Entry], caption: str | None, vocabulary: list[str] | None
) -> str:
    if caption is None:
        return ", ".join(word for entry in (*named, *extra) for word in _known(entry.words, vocabulary))
    text = normalise(caption)
    spans = find_words(text, [word for entry in (*named, *extra) for word in entry.words])
    missing = [entry for entry in extra if not any(spans[word] for word in entry.words)]
    words = [word for entry in missing for word in _known(entry.words, vocabulary)]
    return ", ".join([text.rstrip(f" {COMMAS}{FULL_STOPS}"), *words]) if words else text


def _known(words: Sequence[str], vocabulary: list[str] | None) -> Sequence[str]:
    """Those words that a model knows; all of them where it knows none, so that it can say which."""
    if vocabulary is None:
        return words
    return [word for word in words if not unknown_words(word, vocabulary)] or words


def unknown_words(text: str, vocabulary: Iterable[str]) -> list[str]:
    """Words of a text that a model which knows only some phrases has never seen."""
    words = {word for phrase in vocabulary for word in phrase.lower().split()}
    return [word for word in dict.fromkeys(re.findall(r"\w+", text.lower())) if word not in words]


def check_vocabulary(text: str, vocabulary: Iterable[str]) -> None:
    """Raise ``ValueError`` for words that a model which knows only some phrases has never seen."""
    known = list(dict.fromkeys(vocabulary))
    unknown = unknown_words(text, known)
    if unknown:
        raise ValueError(
            f"This small model has never seen the word {_quoted(unknown)}; it knows {', '.join(known)} "
            "(use a big model for photographs, e.g. --model sd15)."
        )
