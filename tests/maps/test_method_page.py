"""docs/method.md and the code say the same: each equation has its function, and the function its number."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "method.md").read_text(encoding="utf-8")
EQUATIONS = re.findall(r"^\| (\d+) \| .* \| `(goca\.[\w.]+)` \|$", PAGE, re.MULTILINE)


def find(path: str) -> object:
    """The module, class or function of a dotted path."""
    module, rest = path, []
    while True:
        try:
            found: object = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for name in rest:
        found = getattr(found, name)
    return found


def test_the_page_has_every_equation() -> None:
    assert [number for number, _ in EQUATIONS] == [str(number) for number in range(1, 14)]


@pytest.mark.parametrize(("number", "path"), EQUATIONS)
def test_the_function_names_its_equation(number: str, path: str) -> None:
    doc = inspect.getdoc(find(path)) or ""
    spans = re.findall(r"[Ee]quations? (\d+)(?: (?:to|and) (\d+))?", doc)
    assert any(int(first) <= int(number) <= int(last or first) for first, last in spans), doc


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(goca\.[\w.]+)`", PAGE))))
def test_what_the_page_names_exists(path: str) -> None:
    assert find(path) is not None


@pytest.mark.parametrize("file", re.findall(r"\(images/([\w-]+\.png)\)", PAGE))
def test_pictures_are_there_and_small(file: str) -> None:
    assert 0 < (DOCS / "images" / file).stat().st_size < 60_000


@pytest.mark.parametrize("path", [path for _, path in EQUATIONS])
def test_an_equation_is_at_most_thirty_lines(path: str) -> None:
    found = find(path)
    source = textwrap.dedent(inspect.getsource(getattr(found, "func", found)))  # func: of a cached property
    body = ast.parse(source).body[0].body[1:]  # type: ignore[attr-defined]  # without the docstring
    assert body[-1].end_lineno - body[0].lineno < 30


def test_a_name_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AttributeError):
        find("goca.maps.heads.nothing")
