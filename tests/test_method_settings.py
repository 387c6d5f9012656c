"""Settings of a method from the words of a command line."""

from __future__ import annotations

from typing import Any

import pytest

from goca.method import PRESETS, Method
from goca.method_settings import FIELDS, change, describe, read_settings


def test_every_field_of_a_method_can_be_set() -> None:
    values = {
        "heads": "cosine",
        "layers": "mse",
        "rescale": "raw",
        "refine_order": 3,
        "background": "max",
        "threshold": -0.25,
        "layer_set": "all",
        "timestep": 50,
        "timesteps": 3,
        "flip": True,
        "pamr": 4,
        "post": "crf",
    }
    assert tuple(values) == FIELDS
    assert read_settings([f"{field} = {value}" for field, value in values.items()]) == values
    assert change({"own": PRESETS["plus"]}, values) == {"own": Method(**values)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("refine-order=2", {"refine_order": 2}),
        ("refine_order=none", {"refine_order": None}),
        ("heads=dot-product w/o clamp", {"heads": "dot-product w/o clamp"}),
        ("threshold=None", {"threshold": None}),
        ("flip=FALSE", {"flip": False}),
        ("threshold=1", {"threshold": 1.0}),
    ],
)
def test_values(word: str, value: dict[str, Any]) -> None:
    assert read_settings([word]) == value
    assert describe(value).split()[0] in FIELDS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["timestep=0"], "timestep is a whole number of at least 1, not 0"),
        (["timestep=99.5"], "timestep is a whole number of at least 1, not '99.5'"),
        (["timesteps=none"], "timesteps is a whole number of at least 1, not 'none'"),
        (["rescale=none"], "unknown rescaling rule 'none'"),
        (["threshold=inf"], "the threshold is a finite number from -1 to 1, not inf"),
        (["threshold=high"], "the threshold is a finite number from -1 to 1, not 'high'"),
        (["flip="], "flip is True or False, not ''"),
        (["=3"], "unknown setting of the method ''"),
        (["pamr=1", "pamr=2"], "the method's pamr is given twice; leave one of them out"),
    ],
)
def test_what_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(words)
