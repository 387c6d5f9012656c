"""Whether a pipeline gives its text encoders the tokens that goca has found the words among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from goca.messages import shorten
from goca.text.spans import TokenSpans
from goca.text.tokens import fits

if TYPE_CHECKING:
    from goca.backbones.base import Backbone, Conditioning


def encode_checked(backbone: Backbone, texts: Sequence[str]) -> Conditioning:
    """Encode one text per image.

    Raises:
        ValueError: the pipeline encodes another text in its place, as one that expands prompts does.
    """
    with _input_rows(backbone.pipeline) as rows:
        conditioning = backbone.encode_prompt(texts)
    special = _special_ids(backbone.pipeline) if rows else set()
    for text in dict.fromkeys(texts) if rows else ():
        for each in backbone.token_spans(text):
            if not any(_holds(row, each, special) for row in rows):
                raise ValueError(
                    f"the pipeline gives its text encoder other words than {shorten(repr(text), 80)}, in which goca "
                    "cannot find the classes; take a pipeline that does not rewrite prompts"
                )
    return conditioning


@contextmanager
def _input_rows(pipeline: Any) -> Iterator[list[list[int]]]:
    """The ids of every text that the pipeline's text encoders get inside the context."""
    rows: list[list[int]] = []

    def note(_module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        ids = options.get("input_ids", args[0] if args else None)
        if isinstance(ids, torch.Tensor) and ids.ndim == 2 and not ids.is_floating_point():
            rows.extend(ids.tolist())

    encoders = [part for name, part in pipeline.components.items() if name.startswith("text_encoder")]
    handles = [
        part.register_forward_pre_hook(note, with_kwargs=True) for part in encoders if isinstance(part, nn.Module)
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _special_ids(pipeline: Any) -> set[int]:
    """What tokenizers put before, behind and in place of words."""
    parts = [part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part is not None]
    tokenizers = [part if hasattr(part, "all_special_ids") else part.tokenizer for part in parts]
    return {token for each in tokenizers for token in each.all_special_ids}


def _holds(row: list[int], text: TokenSpans, special: set[int]) -> bool:
    """Whether a row consists of a text's ids, next to each other, and special ones; a text that is cut may be cut later
    by the pipeline. Unknown ids are taken as they are."""
    count, whole = len(text.ids), fits(text)
    return not count or any(
        tuple(row[start : start + count]) == text.ids
        and special.issuperset((*row[:start], *(row[start + count :] if whole else ())))
        for start in range(len(row) - count + 1)
    )
