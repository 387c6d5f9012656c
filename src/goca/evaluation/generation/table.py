"""The table of guidance as text."""

from __future__ import annotations

from typing import Any

BASE = "cfg"
DIGITS = {"frechet": 1, "fid": 2, "clip": 2}


def heading(answer: dict[str, Any], key: str) -> str:
    """A measure's title and what real scenes have."""
    real = answer["real"]
    return answer["columns"][key] + (f"; real scenes {show(real[key], key)}" if real else "")


def rows(answer: dict[str, Any], key: str) -> list[list[str]]:
    """One measure's table as text, its headings first: a line per scale, then differences to plain guidance."""
    numbers = {(each["scale"], each["guidance"]): each for each in answer["results"]}
    kinds, others = answer["guidance"], [kind for kind in answer["guidance"] if kind != BASE]
    if len(others) == len(kinds):
        others = []
    lines = [["scale", *kinds, *(f"{kind} - {BASE}" for kind in others)]]
    for scale in answer["scales"]:
        values = [show(numbers[scale, kind][key], key) for kind in kinds]
        differences = [show(numbers[scale, kind]["difference"][key], key) for kind in others]
        lines.append([f"{scale:g}", *values, *differences])
    return lines


def show(numbers: dict[str, float | None], key: str) -> str:
    """``0.912 [0.880, 0.941]``; zero has no sign."""
    digits = DIGITS.get(key, 3)
    value, *ends = (None if each is None else f"{round(each, digits) + 0.0:.{digits}f}" for each in numbers.values())
    return f"{value} [{', '.join(map(str, ends))}]" if all(ends) else f"{value}"


def markdown(answer: dict[str, Any]) -> str:
    """The tables for documents."""
    parts = []
    for key in answer["columns"]:
        head, *lines = rows(answer, key)
        table = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
        parts.append("\n".join([f"{heading(answer, key)}:", "", *table, ""]))
    return "\n".join(parts)
