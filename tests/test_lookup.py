"""Names that users type."""

from __future__ import annotations

import pytest

from goca.lookup import look_up


def test_a_known_name_gives_its_entry_or_itself() -> None:
    assert look_up({"paper": 1}, "paper", "preset") == 1
    assert look_up(("a", "b"), "b", "letter") == "b"


def test_an_unknown_name_gives_the_choices_and_the_nearest_one() -> None:
    said = r"^unknown preset 'papr' \(did you mean 'paper'\?\); choose one of paper, plus$"
    with pytest.raises(ValueError, match=said):
        look_up(["paper", "plus"], "papr", "preset")
    with pytest.raises(ValueError, match=r"^unknown rule 'xyz'; choose one of a, b, or write your own$"):
        look_up(["a", "b"], "xyz", "rule", hint=", or write your own")
