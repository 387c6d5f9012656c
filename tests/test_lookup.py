"""Names that users type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from goca.lookup import look_up, read_names


def test_a_known_name_gives_its_entry_or_itself() -> None:
    assert look_up({"paper": 1}, "paper", "preset") == 1
    assert look_up(("a", "b"), "b", "letter") == "b"


def test_an_unknown_name_gives_the_choices_and_the_nearest_one() -> None:
    said = r"^unknown preset 'papr' \(did you mean 'paper'\?\); choose one of paper, plus$"
    with pytest.raises(ValueError, match=said):
        look_up(["paper", "plus"], "papr", "preset")
    with pytest.raises(ValueError, match=r"^unknown rule 'xyz'; choose one of a, b, or write your own$"):
        look_up(["a", "b"], "xyz", "rule", hint=", or write your own")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cat", ["cat"]),
        (" cat, palm tree ,,sky\n", ["cat", "palm tree", "sky"]),
        ("\u732b\uff0c\u8349\u3001\u7a7a", ["\u732b", "\u8349", "\u7a7a"]),
        ("", []),
        (["cat", "a, b"], ["cat", "a, b"]),
        (("cat",), ["cat"]),
        (np.array(["cat", "sky"]), ["cat", "sky"]),
        ((name for name in ("cat", "sky")), ["cat", "sky"]),
    ],
)
def test_names_are_a_list_or_a_string_with_commas(given: Any, expected: list[str]) -> None:
    names = read_names(given, "class")
    assert names == expected and all(type(name) is str for name in names)


@pytest.mark.parametrize("given", [None, 5, 2.0, b"cat", {"cat", "sky"}, {"cat": 1}, np.array("cat"), object()])
def test_what_is_no_list_of_names_is_refused(given: Any) -> None:
    with pytest.raises(
        ValueError, match="give the class names as a list of strings or as one string with commas, not as"
    ):
        read_plainly(given)


@pytest.mark.parametrize("given", [["cat", 5], [["cat", "kitty"], ["sky"]], [None], [b"cat"], np.array([[1, 2]])])
def test_names_that_are_no_strings_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"every class name is a string, not \w+: .* \(synonyms are separated by \|"):
        read_plainly(given)


def read_plainly(given: Any) -> list[str]:
    """Without the tests' own check of types."""
    return getattr(read_names, "__wrapped__", read_names)(given, "class")
