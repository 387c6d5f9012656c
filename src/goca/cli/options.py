"""Options that several commands share: each is defined once, in a dataclass that a command takes as one parameter."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from goca.cli.common import command_line, split_models
from goca.ranges import LARGEST_COUNT, LARGEST_SEED, LARGEST_SIDE, MOST_STEPS, MOST_WORKERS

if TYPE_CHECKING:
    from goca.distributed.cluster import Workers
    from goca.evaluation.experiment import Experiment
    from goca.method import Method
    from goca.segmenter import Segmenter

ADDRESS = r"local|auto|ray://\S+|[\w.-]+:\d+"
CHOICES = {
    "formats": ("goca.export", "FORMATS"),
    "datasets": ("goca.datasets", "DATASETS"),
    "protocols": ("goca.evaluation.metrics", "MEANS"),
    "alignments": ("goca.text.align", "Rule"),
    "presets": ("goca.method", "PRESETS"),
    "baselines": ("goca.method", "BASELINES"),
    "questions": ("goca.captioning.request", "QUESTIONS"),
    "dtypes": ("goca.models.devices", "DTYPES"),
    "guidance": ("goca.guidance.generate", "GUIDANCE"),
    "heads": ("goca.maps.heads", "HEAD_RULES"),
    "layers": ("goca.maps.layers", "LAYER_RULES"),
    "layer_sets": ("goca.method", "LAYER_SETS"),
    "rescaling": ("goca.maps.rescale", "RESCALE_RULES"),
    "backgrounds": ("goca.maps.background", "BACKGROUND_RULES"),
    "settings": ("goca.method_settings", "FIELDS"),
    "offloading": ("goca.models.loading", "OFFLOADING"),
    "models": ("goca.models.specs", "MODELS"),
    "upsampling": ("goca.maps.upsample", "UPSAMPLING"),
    "tables": ("goca.evaluation.reproduce.reported", "TABLES"),
}


def seed_option(text: str) -> Any:
    """An option that takes a seed."""
    return typer.Option(min=0, max=LARGEST_SEED, help=text)


def count_option(text: str, least: int = 1) -> Any:
    """An option that takes a number of things."""
    return typer.Option(min=least, max=LARGEST_COUNT, help=text)


def completing(name: str) -> Callable[[str], list[str]]:
    """What the shell asks: the names in a registry that begin like the last entry, after commas, of what is typed."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{choice}" for choice in choices(name) if choice.startswith(last)]

    return complete


def steps_option() -> Any:
    """An option that takes a number of denoising steps."""
    return typer.Option(min=1, max=MOST_STEPS, help="Denoising steps. Default: the pipeline's own.")


Function = TypeVar("Function", bound=Callable[..., Any])

JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the accelerator if there is one.")]
DtypeOption = Annotated[
    str | None, typer.Option(help="{dtypes}. Default: float32 on a CPU, bfloat16 on an accelerator.")
]
OffloadOption = Annotated[
    str | None,
    typer.Option(
        help="Keep weights in main memory until their turn: {offloading}. The first moves whole components, the second "
        "layers."
    ),
]
PresetOption = Annotated[str | None, typer.Option(help="Method: {presets}. Default: the model's own.")]
BackgroundOption = Annotated[
    list[str] | None, typer.Option(help="Phrases for everything else, separated by commas, e.g. background.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results.")]
CsvOption = Annotated[
    Path | None,
    typer.Option("--csv", help="Write also this CSV file: a row per method, with intervals and the IoU of each class."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there already; never the input's.")
]


@dataclass(frozen=True)
class DeviceOptions:
    """Which model, and where it computes."""

    model: Annotated[
        str | None,
        typer.Option(
            help="Name shown by 'goca models', hub id, local folder or checkpoint file. Default: scenes-dit.",
            autocompletion=completing("models"),
        ),
    ] = None
    device: DeviceOption = None
    dtype: DtypeOption = None
    offload: OffloadOption = None

    def load(self, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> Segmenter:
        """The segmenter, without progress bars: loading takes a second, and downloads keep their own."""
        import diffusers
        import transformers

        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        from goca.segmenter import Segmenter

        return Segmenter.from_pretrained(**self.arguments(preset, settings))

    def check(self, methods: Iterable[Method]) -> None:
        """Refuse methods that cannot work on the model, as far as can be told before it is loaded."""
        from goca.method import check
        from goca.models.specs import DEFAULT_MODEL, MODELS

        spec = MODELS.get(self.model or DEFAULT_MODEL)
        if spec is not None:
            for method in methods:
                check(method, spec)

    def arguments(self, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Arguments of :meth:`goca.Segmenter.from_pretrained`.

        Args:
            preset: the method; by default the model's own.
            settings: fields of the method that differ from it.
        """
        from goca.method import find_method
        from goca.models.specs import DEFAULT_MODEL, MODELS, ModelSpec

        name = self.model or DEFAULT_MODEL
        method: Method | str | None = preset
        if settings:
            own = MODELS[name].preset if name in MODELS else ModelSpec.preset
            method = replace(find_method(preset or own), **settings)
        options = {key: value for key, value in vars(self).items() if key != "model"}
        return {"name": name, "method": method, **options}


@dataclass(frozen=True)
class ModelOptions(DeviceOptions):
    """Which model, where it computes, and how it segments."""

    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None
    lora: Annotated[str | None, typer.Option(help="LoRA to put on top: hub id, folder or file.")] = None
    fast: Annotated[bool, typer.Option("--fast", help="A little less exact, in less time.")] = False
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_SIDE,
            help="Side in pixels of the square that images are resized to. Default: the model's own.",
        ),
    ] = None
    keep_aspect: Annotated[
        bool, typer.Option("--keep-aspect", help="Keep the images' shape, at the area of that square.")
    ] = False

    @property
    def unnamed(self) -> dict[str, str]:
        """What a loaded segmenter does not tell of itself."""
        return {key: value for key in ("revision", "lora") if (value := getattr(self, key)) is not None}


@dataclass(frozen=True)
class CalibratedModelOptions(ModelOptions):
    """The same, and what its confidences mean."""

    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File that goca calibrate wrote for this model and method, which gives the confidences their meaning."
        ),
    ] = None

    def arguments(self, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        from goca.calibration import load_calibration

        calibration = None if self.calibration is None else load_calibration(self.calibration)
        return {**super().arguments(preset, settings), "calibration": calibration}


@dataclass(frozen=True)
class ModelsOptions(ModelOptions):
    """The same for one or several models."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Name shown by 'goca models', hub id, local folder or checkpoint file; several separated by commas or "
            "by repeating --model. Default: scenes-dit."
        ),
    ] = None  # type: ignore[assignment]

    def each(self) -> list[ModelOptions]:
        """The options of every model.

        Raises:
            ValueError: several models with a revision or LoRA, which belong to one, or a name that nothing has.
        """
        from goca.models.loading import find_source

        names = split_models(self.model or [])
        for name in names:
            find_source(name)
        if len(names) > 1 and self.unnamed:
            raise ValueError(f"--{next(iter(self.unnamed))} belongs to one model; leave it out, or name one --model")
        return [ModelOptions(**{**vars(self), "model": name}) for name in names or (None,)]


@dataclass(frozen=True)
class MethodOptions:
    """Single settings of the method, instead of the preset's."""

    timestep: Annotated[
        int | None, typer.Option(min=1, max=999, help="Noise level of the forward, 1 to 999. Default: the model's own.")
    ] = None
    heads: Annotated[str | None, typer.Option(help="Rule that weighs heads: {heads}.")] = None
    layers: Annotated[str | None, typer.Option(help="Rule that weighs layers: {layers}.")] = None
    layer_set: Annotated[str | None, typer.Option(help="Layers that are aggregated: {layer_sets}.")] = None
    rescale: Annotated[str | None, typer.Option(help="Rescaling rule: {rescaling}.")] = None
    refine_order: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="How often the self-attention is applied to the maps; 0 switches it off."),
    ] = None
    background_rule: Annotated[str | None, typer.Option(help="Rule of the background's score: {backgrounds}.")] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Score of the background, which gets the pixels where no class scores more. In an evaluation it "
            "stands instead of the protocol's sweep or default.",
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the method, may be repeated: {settings}."),
    ] = None

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of :class:`goca.method.Method` that are given."""
        from goca.method_settings import read_settings

        options = {**vars(self), "background": self.background_rule, "set_": None, "background_rule": None}
        given = [f"{field}={value}" for field, value in options.items() if value is not None]
        return read_settings([*given, *(self.set_ or [])])


@dataclass(frozen=True)
class RayOptions:
    """Whether other processes do the work."""

    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Spread the work over processes with Ray: on the cluster at ADDRESS (host:port, auto), else on this "
            "machine.",
        ),
    ] = None
    workers: Annotated[int, typer.Option(min=1, max=MOST_WORKERS, help="Processes that work at once with --ray.")] = 2

    def connect(self, model: dict[str, Any]) -> Workers | None:
        """The workers, each with the model of these arguments; ``None`` without ``--ray``."""
        if self.ray is None:
            return None
        from goca.distributed.cluster import Workers

        workers = Workers(model, self.ray, self.workers)
        workers.connect()
        return workers


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated on what, apart from the methods."""

    dataset: Annotated[str, typer.Option(help="Data set: {datasets}.")] = "scenes"
    root: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None
    split: Annotated[str | None, typer.Option(help="Split of the data set. Default: the protocol's.")] = None
    protocol: Annotated[
        str,
        typer.Option(
            help="standard: validation split, void not counted, fixed threshold. paper: as the paper's tables, with "
            "their words and lists, which look at the target labels for the classes and the best threshold."
        ),
    ] = "standard"
    captions: Annotated[
        str | None,
        typer.Option(
            help="Caption file (goca caption writes one), or 'classes': the names of the classes in the target labels. "
            "Default: the data set's own words, else 'classes'.",
            metavar="FILE|classes",
        ),
    ] = None
    alignment: Annotated[
        str | None,
        typer.Option(
            help="How captions are matched with classes: {alignments}. Default: published for protocol paper, "
            "else exact."
        ),
    ] = None
    limit: Annotated[int | None, count_option("How many images. Default: all; 200 scenes.")] = None
    seed: Annotated[int, seed_option("Series of scenes; seed of the noise for other data sets.")] = 0
    batch: Annotated[int, count_option("Images that are computed and written down together.")] = 8
    out: Annotated[
        Path | None, typer.Option(help="Folder for records.jsonl (one line per image), results.json and report.html.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the results in the folder of --out.")] = False
    overwrite: OverwriteOption = False

    def open(self, threshold: float | None = None) -> Experiment:
        """Open the data set, after a look at the folder.

        Args:
            threshold: of the background, for all methods.
        """
        from goca.evaluation.experiment import Experiment
        from goca.evaluation.outputs import check_out

        check_out(self.out, self.resume, self.overwrite)
        names = ("dataset", "root", "split", "protocol", "captions", "alignment", "limit", "seed")
        return Experiment.open(**{name: getattr(self, name) for name in names}, threshold=threshold)

    @property
    def inputs(self) -> list[str]:
        """Files that are read."""
        return [] if self.captions in (None, "classes") else [str(self.captions)]

    @property
    def writing(self) -> dict[str, Any]:
        """Arguments of :meth:`goca.evaluation.experiment.Experiment.run`, but for the folder."""
        return {
            "batch": self.batch,
            "resume": self.resume,
            "overwrite": self.overwrite,
            "command": command_line(),
        }


@dataclass(frozen=True)
class ImagesOptions:
    """Images with true labels."""

    dataset: Annotated[str, typer.Option(help="Data set: {datasets}.")] = "scenes"
    root: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None
    split: Annotated[str | None, typer.Option(help="Split of the data set. Default: its own.")] = None
    limit: Annotated[int | None, count_option("How many images. Default: all; 200 scenes.")] = None
    seed: Annotated[int, seed_option("Series of scenes, and seed of the names that are too many.")] = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of :func:`goca.evaluation.named.open_images`."""
        return dict(vars(self))


def grouped(command: Function) -> Function:
    """Give a command the fields of its dataclass parameters as options of their own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            options.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        types = get_type_hints(group, include_extras=True)
        options += [
            inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
            for field in dataclasses.fields(group)
        ]

    @functools.wraps(command)
    def call(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        return command(**values)

    for option in options:
        add_completion(option.annotation)
    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {option.name: option.annotation for option in options}
    return call  # type: ignore[return-value]


class Command(TyperCommand):
    """A command whose numbers are finite, whose ``--ray`` may stand without an address, and whose help lists the
    choices that there are.

    A help text names a registry in braces, such as ``{presets}``; it is read when the help is shown, so that commands
    do not wait for it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        complete = list(args)
        if "--ray" in complete:
            after = complete.index("--ray") + 1
            if not re.fullmatch(ADDRESS, "".join(complete[after : after + 1])):
                complete.insert(after, "local")
        rest = super().parse_args(ctx, complete)
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            if isinstance(value, float) and not math.isfinite(value):
                hint = f"'{parameter.opts[-1]}'"
                raise typer.BadParameter(f"{value} is no finite number", ctx=ctx, param_hint=hint)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if isinstance(parameter, TyperOption | TyperArgument) and parameter.help:
                parameter.help = re.sub(r"\{(\w+)\}", lambda match: ", ".join(choices(match[1])), parameter.help)
        super().format_help(ctx, formatter)


def add_completion(annotation: Any) -> None:
    """Let the shell complete an option whose help names a registry."""
    for info in getattr(annotation, "__metadata__", ()):
        named = re.search(r"\{(\w+)\}", getattr(info, "help", None) or "")
        if named is not None and info.autocompletion is None:
            info.autocompletion = completing(named[1])


def choices(name: str) -> list[str]:
    """The names in a registry of :data:`CHOICES`."""
    module, attribute = CHOICES[name]
    registry = getattr(import_module(module), attribute)
    return list(get_args(registry) or registry)
