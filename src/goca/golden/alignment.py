"""Recorded alignments of the published code, and how far the rules of :mod:`goca.text.align` agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goca.text.align import Aligned, Rule, align
from goca.text.spans import TokenSpans, read_offsets


def count_differences(case: dict[str, Any], tokenizer_folder: Path) -> tuple[int, str]:
    """Run every caption of an ``alignment`` case.

    Returns:
        on how many captions the ``published`` rule differs from the recording; a sentence that names the first of them
        and says on how many the ``exact`` rule differs.

    Raises:
        ValueError: no captions, another tokenizer than CLIP's, or its folder is missing.
    """
    if not case["cases"]:
        raise ValueError("the file holds no cases")
    if case["tokenizer"] != "clip":
        raise ValueError(f"unknown tokenizer {case['tokenizer']!r}; only clip is supported")
    if not (tokenizer_folder / "vocab.json").is_file():
        raise ValueError(f"no tokenizer in {tokenizer_folder}; name its folder with --tokenizer DIR")
    from transformers import CLIPTokenizerFast

    tokenizer = CLIPTokenizerFast.from_pretrained(tokenizer_folder)

    def differing(rule: Rule) -> list[str]:
        found = [(entry, _describe(_align(entry, case, tokenizer, rule))) for entry in case["cases"]]
        return [
            f"{entry['image']} ({', '.join(parts)})"
            for entry, (answer, missing) in found
            if (parts := _differing_parts(entry["expected"], answer, missing))
        ]

    wrong, own = differing("published"), differing("exact")
    first = f"{len(wrong)} of {len(case['cases'])} captions differ, the first is {wrong[0]}; " if wrong else ""
    return len(wrong), f"{first}goca's own rule differs on {len(own)} of {len(case['cases'])}"


def _align(entry: dict[str, Any], case: dict[str, Any], tokenizer: Any, rule: Rule) -> Aligned:
    longest = case["max_length"]

    def token_spans(text: str) -> list[TokenSpans]:
        return [read_offsets(tokenizer, text, longest)]

    return align(
        entry["raw_caption"],
        case["classes"],
        entry["present"],
        token_spans,
        max_length=longest,
        append_missing=case["append_missing"],
        append_background=case["append_background"],
        rule=rule,
    )


def _describe(aligned: Aligned) -> tuple[dict[str, Any], set[str]]:
    prompt = aligned.prompt
    answer = {
        "caption": prompt.text,
        "content": list(prompt.content_tokens),
        "objects": {str(i): list(each.tokens) for i, each in zip(aligned.indices, prompt.classes, strict=True)},
        "background": [list(each.tokens) for each in prompt.background],
    }
    return answer, {str(index) for index in aligned.missing}


def _differing_parts(expected: dict[str, Any], answer: dict[str, Any], missing: set[str]) -> list[str]:
    """Names of the parts that differ; a class that the recording names without tokens must be ``missing``."""
    objects = {index: tokens for index, tokens in expected["objects"].items() if tokens}
    parts = [name for name in answer if answer[name] != (objects if name == "objects" else expected[name])]
    if "objects" not in parts and not expected["objects"].keys() - objects.keys() <= missing:
        parts.append("objects")
    return parts
