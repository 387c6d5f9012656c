"""Single fields of a method as users write them: ``heads=average``, ``timestep=50``, ``threshold=none``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

from goca.lookup import look_up
from goca.method import Method

FIELDS = tuple(field.name for field in fields(Method))


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Fields of :class:`goca.method.Method` with their values from words like ``timesteps=3``.

    ``none`` leaves a field to the model, where it can be left; ``-`` may stand for ``_`` in its name.

    Raises:
        ValueError: no such field, a value that is none of the field's, or a field that is given twice.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals:
            raise ValueError(f"{word!r} sets nothing; write KEY=VALUE, for example refine_order=1")
        field = look_up(FIELDS, name.replace("-", "_"), "setting of the method")
        if field in settings:
            raise ValueError(f"the method's {field} is given twice; leave one of them out")
        settings[field] = _read_value(field, text)
    replace(Method(), **settings)
    return settings


def _read_value(field: str, text: str) -> Any:
    """The value that a text stands for; the text itself where it is no number or switch, which the method refuses."""
    kind = get_type_hints(Method)[field]
    kinds = get_args(kind) or (kind,)
    if NoneType in kinds and text.casefold() == "none":
        return None
    if bool in kinds:
        return {"true": True, "false": False}.get(text.casefold(), text)
    number = next((each for each in (int, float) if each in kinds), str)
    try:
        return number(text)
    except ValueError:
        return text


def change(methods: Mapping[str, Method], settings: Mapping[str, Any]) -> dict[str, Method]:
    """The methods, each with these fields instead of its own."""
    return {name: replace(method, **settings) for name, method in methods.items()}


def describe(settings: Mapping[str, Any]) -> str:
    """``heads average, timestep 50``."""
    return ", ".join(f"{field} {'none' if value is None else value}" for field, value in settings.items())
