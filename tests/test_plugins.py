"""Names of your own, from Python and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goca import plugins
from goca.cli import app
from goca.maps.background import BACKGROUND_RULES
from goca.maps.heads import HEAD_RULES
from goca.method import BASELINES, PRESETS, Method, find_methods

EXAMPLE = (Path(__file__).parents[1] / "docs/extending.md").read_text().split("```python\n")[1].split("```")[0]


@pytest.fixture(autouse=True)
def tables_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tables = (PRESETS, BASELINES, HEAD_RULES, BACKGROUND_RULES)
    before = [dict(table) for table in tables]
    monkeypatch.setattr(plugins, "_loaded", [])
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)  # type: ignore[arg-type]


def test_a_plugin_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "plugin_of_the_test.py"
    file.write_text(EXAMPLE)
    arguments = ["--plugin", str(file), "evaluate", "--limit", "1", "--presets", "mine,plain", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert '"preset": "mine"' in result.stdout and '"preset": "plain"' in result.stdout
    assert plugins.loaded_plugins() == (str(file),)
    plugins.load_plugins([str(file)])  # a second time is none
    assert find_methods(["mine"]) == {"mine": Method(heads="outputs", background="half")}


@pytest.mark.parametrize("name", ["no_such_module", "no_such_file.py"])
def test_a_plugin_that_fails_is_one_sentence(name: str) -> None:
    result = CliRunner().invoke(app, ["--plugin", name, "models"])
    assert result.exit_code == 2
    assert "cannot load the plugin" in result.stderr


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="there is a preset 'daam' already; take another name, or pass replace=True"):
        plugins.register_preset("daam", Method())
    plugins.register_preset("daam", Method(), replace=True)
    assert PRESETS["daam"] == Method() and "daam" not in BASELINES
    with pytest.raises(ValueError, match="there is a head rule 'cosine' already"):
        plugins.register_head_rule("cosine", None)


def test_a_background_rule_that_falls_with_the_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="'down' gives a lower score at a higher threshold"):
        plugins.register_background_rule("down", lambda background, threshold: background - threshold)
    assert "down" not in BACKGROUND_RULES
