"""Your own presets, rules, data sets, output formats and models under names that goca's functions and commands take.

A plugin is a Python module that calls the functions below while it is imported. The command line imports the modules of
``goca --plugin MODULE``, by name or as the path of a file, and those of installed packages that declare an entry point
in the group ``goca.plugins``. See docs/extending.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goca.lookup import Names, read_names
from goca.method import BASELINES, PRESETS, Method

if TYPE_CHECKING:
    from goca.datasets.base import Dataset
    from goca.maps.background import BackgroundRule
    from goca.maps.heads import HeadRule
    from goca.maps.layers import LayerRule
    from goca.maps.rescale import RescaleRule
    from goca.models.specs import ModelSpec

GROUP = "goca.plugins"
_loaded: list[str] = []


def load_plugins(names: Names = ()) -> None:
    """Import the installed plugins, then these modules; each once.

    Args:
        names: of modules that Python can import, or paths of ``.py`` files.

    Raises:
        ValueError: a module that is not there or fails.
    """
    for name in (*(entry.module for entry in entry_points(group=GROUP)), *read_names(names, "plugin")):
        name = str(Path(name).resolve()) if name.endswith(".py") else name
        if name in _loaded:
            continue
        try:
            _import_file(Path(name)) if name.endswith(".py") else import_module(name)
        except Exception as error:
            raise ValueError(
                f"cannot load the plugin {name} ({type(error).__name__}: {error}); give a module that Python can "
                "import, or the path of a .py file"
            ) from error
        _loaded.append(name)


def loaded_plugins() -> tuple[str, ...]:
    """What another process has to pass to :func:`load_plugins` to know the same names."""
    return tuple(_loaded)


def _import_file(path: Path) -> None:
    """Run a file as the module of its name, so that what it defines can be pickled."""
    if path.stem in sys.modules:
        raise ImportError(f"there is a module {path.stem} already; rename the file")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    sys.modules[path.stem] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def register_preset(name: str, method: Method, *, replace: bool = False) -> None:
    """Add a preset: ``--preset NAME``, ``--presets NAME``, ``Segmenter(model, NAME)``.

    Args:
        replace: take the place of an entry of that name, here and below; otherwise it is a ``ValueError``.
    """
    _check_free({**PRESETS, **BASELINES}, name, "preset", replace)
    BASELINES.pop(name, None)
    PRESETS[name] = method


def register_baseline(name: str, method: Method, *, replace: bool = False) -> None:
    """Add a baseline: as a preset, but listed apart from them."""
    _check_free({**PRESETS, **BASELINES}, name, "preset", replace)
    PRESETS.pop(name, None)
    BASELINES[name] = method


def register_head_rule(name: str, rule: HeadRule | None, *, replace: bool = False) -> None:
    """Add a rule that weighs the heads of a layer, see :mod:`goca.maps.heads`."""
    from goca.maps.heads import HEAD_RULES

    _add(HEAD_RULES, name, rule, "head rule", replace)


def register_layer_rule(name: str, rule: LayerRule, *, replace: bool = False) -> None:
    """Add a rule that weighs the layers, see :class:`goca.maps.layers.LayerRule`."""
    from goca.maps.layers import LAYER_RULES

    _add(LAYER_RULES, name, rule, "layer rule", replace)


def register_rescale_rule(name: str, rule: RescaleRule, *, replace: bool = False) -> None:
    """Add a rule that makes maps comparable, see :class:`goca.maps.rescale.RescaleRule`."""
    from goca.maps.rescale import RESCALE_RULES

    _add(RESCALE_RULES, name, rule, "rescaling rule", replace)


def register_background_rule(name: str, rule: BackgroundRule, *, replace: bool = False) -> None:
    """Add a rule for the background's score: (background map, threshold) -> score.

    Raises:
        ValueError: the score falls somewhere as the threshold rises, which the search for the best threshold rules out.
    """
    import torch

    from goca.maps.background import BACKGROUND_RULES

    background = torch.linspace(0, 1, 11, dtype=torch.float32)
    scores = torch.stack([rule(background, step / 10) for step in range(-10, 11)])
    if (scores.diff(dim=0) < 0).any():
        raise ValueError(f"background rule {name!r} gives a lower score at a higher threshold; make it rise or stay")
    _add(BACKGROUND_RULES, name, rule, "background rule", replace)


def register_dataset(name: str, dataset: Callable[..., Dataset], *, replace: bool = False) -> None:
    """Add a data set: ``--dataset NAME``; called with the folder, the split, and options that users give."""
    from goca.datasets import DATASETS

    _add(DATASETS, name, dataset, "data set", replace)


def register_model(spec: ModelSpec, *, replace: bool = False) -> None:
    """Add a model: ``--model NAME``, with settings of your own; a new family is added by
    :func:`goca.backbones.register`."""
    from goca.models.specs import MODELS

    _add(MODELS, spec.name, spec, "model", replace)


def _add(table: MutableMapping[str, Any], name: str, entry: Any, kind: str, replace: bool) -> None:
    _check_free(table, name, kind, replace)
    table[name] = entry


def _check_free(table: Mapping[str, Any], name: str, kind: str, replace: bool) -> None:
    if name in table and not replace:
        raise ValueError(f"there is a {kind} {name!r} already; take another name, or pass replace=True")
