"""Old paths and names work, with a warning that gives the new one."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from goca._moved import MODULES, NAMES
from goca.models.specs import MODELS
from goca.types import Prompt


@pytest.mark.parametrize("old", MODULES)
def test_old_paths_of_modules(old: str) -> None:
    new = importlib.import_module(MODULES[old])
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is called {MODULES[old]} now"):
        module = importlib.import_module(old)
    public = next((name for name in vars(new) if name[0].isalpha() and f"{old}.{name}" not in NAMES), None)
    assert public is None or getattr(module, public) is getattr(new, public)
    with pytest.raises(AttributeError):
        _ = module.nothing_of_this_name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("old", NAMES)
def test_old_names_in_modules(old: str) -> None:
    (old_module, _, old_name), (new_module, _, new_name) = old.rpartition("."), NAMES[old].rpartition(".")
    module = importlib.import_module(old_module)
    with pytest.warns(DeprecationWarning, match=f"{old} is called {NAMES[old]} now"):
        found = getattr(module, old_name)
    assert found is getattr(importlib.import_module(new_module), new_name)


def test_old_names_of_attributes() -> None:
    spec = MODELS["sd15"]
    with pytest.warns(DeprecationWarning, match="all_parameters is called total_parameters"):
        assert spec.all_parameters == spec.total_parameters  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="familiar_error is called ood_threshold"):
        assert MODELS["scenes-dit"].familiar_error == 0.054  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="content of Prompt is called content_tokens"):
        prompt = Prompt("", (), (), content=(1,))  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"Prompt\.content is called content_tokens"):
        assert prompt.content == (1,)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = prompt.other  # type: ignore[attr-defined]


def test_the_warning_points_at_the_importing_line() -> None:
    arguments = [sys.executable, "-c", "import goca.models.hub\nimport goca.hub"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "<string>:2: DeprecationWarning: goca.hub is called goca.models.hub now" in done.stderr
