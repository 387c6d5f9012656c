"""Names that have moved: the old ones work for one release, with a ``DeprecationWarning`` that gives the new one.

:data:`MODULES` holds modules whose path changed, :data:`NAMES` what changed its name or module beside that. Nothing of
it is imported before an old name is used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar("Class")

MODULES = {
    "goca.aggregation": "goca.maps",
    "goca.aggregation.attention": "goca.maps.attention",
    "goca.aggregation.heads": "goca.maps.heads",
    "goca.aggregation.layers": "goca.maps.layers",
    "goca.aggregation.resize": "goca.maps.resize",
    "goca.aggregation.stream": "goca.maps.aggregate",
    "goca.backbones.recorder": "goca.backbones.hooks",
    "goca.captioning.align": "goca.text.align",
    "goca.captioning.files": "goca.storage.captions",
    "goca.captioning.golden": "goca.golden.alignment",
    "goca.captioning.grammar": "goca.text.grammar",
    "goca.captioning.journal": "goca.captioning.answers",
    "goca.captioning.plurals": "goca.text.plurals",
    "goca.cluster": "goca.distributed.cluster",
    "goca.evaluation.baselines": "goca.method",
    "goca.evaluation.crf": "goca.maps.crf",
    "goca.evaluation.records": "goca.storage.journal",
    "goca.guidance.dataset": "goca.guidance.table",
    "goca.guidance.evaluate": "goca.evaluation.generation.experiment",
    "goca.guidance.judge": "goca.evaluation.generation.scene_parser",
    "goca.guidance.maths": "goca.guidance.scfg",
    "goca.guidance.photos": "goca.evaluation.generation.photographs",
    "goca.guidance.statistics": "goca.evaluation.generation.statistics",
    "goca.guidance.text": "goca.text.tokens",
    "goca.hub": "goca.models.hub",
    "goca.labels": "goca.maps.background",
    "goca.prompt": "goca.text.prompt",
    "goca.refine": "goca.maps.refine",
    "goca.rescale": "goca.maps.rescale",
    "goca.sharpen": "goca.maps.pamr",
    "goca.specs": "goca.models.specs",
    "goca.verify": "goca.golden.verify",
    "goca.zoo": "goca.embedded",
    "goca.zoo.architectures": "goca.embedded.architectures",
    "goca.zoo.curve": "goca.embedded.curve",
    "goca.zoo.data": "goca.embedded.data",
    "goca.zoo.export": "goca.embedded.export",
    "goca.zoo.gallery": "goca.embedded.gallery",
    "goca.zoo.muon": "goca.embedded.muon",
    "goca.zoo.objectives": "goca.embedded.objectives",
    "goca.zoo.random_weights": "goca.embedded.random_weights",
    "goca.zoo.supervised": "goca.embedded.supervised",
    "goca.zoo.train": "goca.embedded.train",
}
NAMES = {
    "goca.evaluation.baselines.find_contenders": "goca.method.find_methods",
    "goca.evaluation.protocols.settle": "goca.evaluation.protocols.adapt_to",
    "goca.evaluation.records.replace_file": "goca.storage.atomic.replace_file",
    "goca.evaluation.records.write_atomically": "goca.storage.atomic.write_atomically",
    "goca.evaluation.task.Record": "goca.evaluation.task.ImageResult",
    "goca.guidance.judge.Judge": "goca.evaluation.generation.scene_parser.SceneParser",
    "goca.guidance.judge.Verdict": "goca.evaluation.generation.scene_parser.Prediction",
    "goca.guidance.maths.counterweight": "goca.guidance.scfg.adjusted_uncond",
    "goca.labels.label": "goca.maps.background.assign_labels",
    "goca.prompt.PUNCTUATION": "goca.text.spans.PUNCTUATION",
    "goca.prompt.STOP_WORDS": "goca.text.spans.STOP_WORDS",
    "goca.prompt.TextRange": "goca.text.spans.TokenSpans",
    "goca.prompt.find_words": "goca.text.spans.find_words",
    "goca.prompt.is_filler": "goca.text.spans.is_filler",
    "goca.prompt.read_offsets": "goca.text.spans.read_offsets",
    "goca.prompt.read_template": "goca.text.spans.read_template",
    "goca.prompt.tokens_in": "goca.text.spans.tokens_in",
    "goca.sharpen.sharpen": "goca.maps.pamr.pamr",
    "goca.specs.PACKAGED": "goca.models.specs.WEIGHTS",
    "goca.zoo.WEIGHTS": "goca.models.specs.WEIGHTS",
}


def warn(old: str, new: str, level: int = 3) -> None:
    """Say that ``old`` is called ``new`` now; ``level`` counts the calls to the user's own code."""
    warnings.warn(f"{old} is called {new} now; the old name goes with the next release", DeprecationWarning, level)


def module_attribute(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module: its old names, then those of the module that took its place."""

    def get(name: str) -> Any:
        old = f"{module}.{name}"
        if old in NAMES:
            warn(old, NAMES[old])
            home, _, attribute = NAMES[old].rpartition(".")
            return getattr(import_module(home), attribute)
        if module in MODULES and not name.startswith("__"):
            return getattr(import_module(MODULES[module]), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get


def renamed(**names: str) -> Callable[[type[Class]], type[Class]]:
    """Class decorator: old keyword arguments and attributes (``old="new"``) stand for the new ones."""

    def decorate(cls: type[Class]) -> type[Class]:
        construct = cls.__init__

        @wraps(construct)
        def initialise(self: Any, *args: Any, **arguments: Any) -> None:
            for old in names.keys() & arguments.keys():
                warn(f"the argument {old} of {cls.__name__}", names[old])
                arguments[names[old]] = arguments.pop(old)
            construct(self, *args, **arguments)

        def get(self: Any, name: str) -> Any:
            if name not in names:
                raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
            warn(f"{cls.__name__}.{name}", names[name])
            return getattr(self, names[name])

        for method, function in (("__init__", initialise), ("__getattr__", get)):
            setattr(cls, method, function)
        return cls

    return decorate


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of :data:`MODULES` under their old paths."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A spec for an old path alone."""
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=any(name.startswith(f"{fullname}.") for name in MODULES))

    def create_module(self, spec: ModuleSpec) -> None:
        """A plain module."""

    def exec_module(self, module: ModuleType) -> None:
        """Make the module hand on to its successor."""
        warn(module.__name__, MODULES[module.__name__])
        vars(module).update(__getattr__=module_attribute(module.__name__), __doc__=f"Now {MODULES[module.__name__]}.")


def install() -> None:
    """Let old paths be found, before a folder of that name that an earlier version may have left behind."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())
