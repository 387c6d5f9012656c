"""The order of the packages: none of them needs, directly or by detours, one that needs it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import goca

SOURCES = Path(goca.__file__).parent


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a file imports at its top or inside functions, those for type checkers alone left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from imported(node)


def package(module: str) -> str:
    """The part of goca that a module lies in: ``goca.maps.heads`` in ``maps``, ``goca.types`` in ``types``."""
    return [*module.split("."), "goca"][1]


def import_graph() -> dict[str, set[str]]:
    """The parts that each part of goca imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found = {package(name) for name in imported(ast.parse(path.read_text(encoding="utf-8"))) if is_ours(name)}
        graph.setdefault(parts[0], set()).update(found - {parts[0], "__version__"})
    return graph


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "goca"


def test_packages_import_each_other_in_one_direction() -> None:
    graph = import_graph()
    for name, needed in sorted(graph.items()):
        print(f"{name}: {', '.join(sorted(needed)) or '-'}")
    left = {name: needed & graph.keys() for name, needed in graph.items()}
    while free := {name for name, needed in left.items() if not needed}:
        left = {name: needed - free for name, needed in left.items() if name not in free}
    assert not left, f"circles among {left}"


def test_only_the_program_imports_the_command_line() -> None:
    assert {name for name, needed in import_graph().items() if "cli" in needed} <= {"__main__", "cli"}
