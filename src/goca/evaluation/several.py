"""Several models on the same images, by the same methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from goca.evaluation.experiment import Experiment
from goca.method import Method
from goca.segmenter import Segmenter
from goca.storage.names import file_names


def run_models(
    experiment: Experiment,
    models: Mapping[str, Callable[[], Segmenter]],
    methods: Mapping[str, Method],
    *,
    out: str | Path | None = None,
    options: Callable[[str], Mapping[str, Any]] = lambda name: {},
) -> list[dict[str, Any]]:
    """Evaluate one model after the other; each is loaded when it is its turn and let go of afterwards.

    Args:
        models: what loads each, by name.
        methods: by name.
        out: folder with a folder for each model, see :meth:`goca.evaluation.experiment.Experiment.run`; that of a
            single model is the folder itself.
        options: further arguments of that method for each model.

    Returns:
        the answer of that method for every model.

    Raises:
        ValueError: see there. OSError: a model cannot be loaded.
    """
    folders = dict(zip(models, model_folders(list(models), out), strict=True))
    return [experiment.run(load(), methods, out=folders[name], **options(name)) for name, load in models.items()]


def model_folders(names: list[str], out: str | Path | None) -> list[Path | None]:
    """Where the results of each model lie."""
    if out is None or len(names) == 1:
        return [None if out is None else Path(out)] * len(names)
    return [Path(out) / name for name in file_names(names)]
