"""Every choice of the method in one dataclass, the methods that have names, and what a method comes to on a model.

The names of the rules are those of the published code (and of the golden files), so that an ablation reads like the
paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from goca._moved import renamed, warn
from goca.backbones import BACKBONES
from goca.lookup import Names, look_up, read_names
from goca.ranges import check_threshold, check_whole

if TYPE_CHECKING:
    from goca.backbones import Backbone
    from goca.models.specs import ModelSpec

View = tuple[int | float, bool]
PAMR_ITERATIONS = 10
MOST_ROUNDS = 1000  # of a refinement, and views that are averaged
LAST_TIMESTEP = 999
LAYER_SETS = ("selected", "vanilla", "manual", "all", "reference")
RULES = {
    "heads": ("head rule", "goca.maps.heads.HEAD_RULES"),
    "layers": ("layer rule", "goca.maps.layers.LAYER_RULES"),
    "rescale": ("rescaling rule", "goca.maps.rescale.RESCALE_RULES"),
    "background": ("background rule", "goca.maps.background.BACKGROUND_RULES"),
    "post": ("post-processing", "goca.maps.post.POST_PROCESSING"),
}
"""By field of :class:`Method`: what its entries are called, and the table that holds them."""
_DOT, _SUM = "dot-product", "sum-1 rescaling"
BUILT_IN: dict[str, tuple[str, ...]] = {
    "heads": ("average", "l2-norm", "cosine", _DOT, f"{_DOT} w/o clamp", "cosine + VW", f"{_DOT} + VW"),
    "layers": (f"{_DOT} similarity", f"{_DOT} similarity of channel 0", "mse", "iou-like", "vanilla"),
    "rescale": (
        *("raw", "per-token renorm", "per-token renorm+", _SUM),
        *(f"{_SUM} + per-token renorm{rest}" for rest in ("", "+", " x raw", "+ x raw", "+ x raw + renorm")),
    ),
    "background": ("offset", "max", "exact", "avg", "vanilla"),
    "post": ("crf", "fttm-crf"),
}
"""The names in those tables that come with goca: they are known without the tables, and so without torch."""


@renamed(sharpen="pamr")
@dataclass(frozen=True)
class Method:
    """How attention becomes class maps and class maps become labels.

    Args:
        heads: rule that weighs the heads of a layer, a key of :data:`goca.maps.heads.HEAD_RULES`; ``None``
            takes the model's own (the paper averages the heads of some models).
        layers: rule that weighs the layers, a key of :data:`goca.maps.layers.LAYER_RULES`; ``None`` takes the
            model's own (the paper's, unless the model has no self-attention map to weigh them by).
        rescale: rule that makes the maps of different words comparable, a key of
            :data:`goca.maps.rescale.RESCALE_RULES`.
        refine_order: how often the self-attention is applied to the maps; ``None`` takes the model's own, 0 switches
            it off.
        background: rule for the background's score, a key of :data:`goca.maps.background.BACKGROUND_RULES`. There is a
            background where the prompt names phrases for it or ``threshold`` is set.
        threshold: the parameter of that rule, from -1 to 1; ``None`` is 0 where the prompt names background phrases.
        layer_set: whose cross-attention is aggregated: the ``"selected"`` layers of the model's spec, those of its
            published plain average (``"vanilla"``, which may also be refined by other layers), the hand-picked ones of
            its ``"manual"`` baseline, ``"all"`` layers of the denoiser, or the ``"reference"`` layer alone.
        timestep: noise level of the forward, a whole number of 1000; ``None`` takes the model's own.
        timesteps: how many timesteps around that one are averaged (1: that one alone).
        flip: average with the horizontally flipped image.
        pamr: how many rounds of pixel-adaptive refinement draw the maps to the image's edges, see
            :mod:`goca.maps.pamr`; 0 leaves it out.
        post: what is done to the maps last, a key of :data:`goca.maps.post.POST_PROCESSING`; ``None`` for nothing.

    Raises:
        ValueError: an unknown rule or layer set, or a number out of its range.
    """

    heads: str | None = None
    layers: str | None = None
    rescale: str = "sum-1 rescaling + per-token renorm+"
    refine_order: int | None = None
    background: str = "offset"
    threshold: float | None = None
    layer_set: str = "selected"
    timestep: int | None = None
    timesteps: int = 1
    flip: bool = False
    pamr: int = 0
    post: str | None = None

    def __post_init__(self) -> None:
        for field, (kind, table) in RULES.items():
            name = getattr(self, field)
            if name not in BUILT_IN[field] and not (name is None and field in ("heads", "layers", "post")):
                module, _, attribute = table.rpartition(".")
                look_up(getattr(import_module(module), attribute), str(name), kind)
        if self.layer_set == "every":
            warn("the layer set 'every'", "'all'", level=5)
            object.__setattr__(self, "layer_set", "all")
        look_up(LAYER_SETS, self.layer_set, "layer set")
        if self.timestep is not None:
            check_whole("timestep", self.timestep, 1, LAST_TIMESTEP)
        check_whole("timesteps", self.timesteps, 1, MOST_ROUNDS)
        check_whole("pamr", self.pamr, 0, MOST_ROUNDS)
        if self.refine_order is not None:
            check_whole("refine_order", self.refine_order, 0, MOST_ROUNDS)
        if self.threshold is not None:
            check_threshold(self.threshold)
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip is True or False, not {self.flip!r}")


PRESETS: dict[str, Method] = {
    "paper": Method(),
    "plus": Method(
        heads="l2-norm",
        rescale="sum-1 rescaling + per-token renorm+ x raw + renorm",
        background="max",
        flip=True,
    ),
    "sharp": Method(rescale="sum-1 rescaling + per-token renorm+ x raw", flip=True, pamr=PAMR_ITERATIONS),
    "vanilla": Method(heads="average", layers="vanilla", rescale="per-token renorm+", layer_set="vanilla"),
    "manual": Method(heads="average", layers="vanilla", rescale="per-token renorm+", layer_set="manual"),
}
_VANILLA = PRESETS["vanilla"]
BASELINES: dict[str, Method] = {
    # The sum over all heads and layers of what the pixels see of each word, each map by its maximum (Tang et al., "What
    # the DAAM", ACL 2023; there per word and time step, here of the one forward).
    "daam": replace(_VANILLA, rescale="per-token renorm", layer_set="all", refine_order=0),
    # One layer's attention from image to text, no further step, as Seg4Diff and ConceptAttention read joint attention
    # (they pick the layer by hand, here it is the reference layer).
    "single-layer": replace(_VANILLA, rescale="raw", layer_set="reference", refine_order=0),
    "vanilla+pamr": replace(_VANILLA, pamr=PAMR_ITERATIONS),
    "vanilla+crf": replace(_VANILLA, post="crf"),
    # Hand-picked layers and a dense CRF of its own parameters, as the paper's table has it under the name FTTM.
    "fttm": replace(PRESETS["manual"], post="fttm-crf"),
}
MASKS: dict[str, Method | None] = {
    # How guidance finds the regions of an image; None is plain guidance, which has none.
    "goca": PRESETS["paper"],
    "s-cfg": Method(heads="average", layers="vanilla", rescale="per-token renorm+", layer_set="all"),
    "cfg": None,
}


def find_method(method: Method | str) -> Method:
    """The preset or baseline of that name; a method is returned as it is.

    Raises:
        ValueError: unknown name.
    """
    return method if isinstance(method, Method) else look_up({**PRESETS, **BASELINES}, method, "preset")


def find_methods(names: Names, refine: bool = True) -> dict[str, Method]:
    """The presets and baselines of these names, in order.

    Args:
        refine: ``False`` leaves out the refinement by self-attention and by the image (PAMR).

    Raises:
        ValueError: no name, or an unknown one.
    """
    named = read_names(names, "preset")
    if not named:
        raise ValueError("name at least one preset, for example --presets vanilla,paper")
    chosen = {name: find_method(name) for name in named}
    return chosen if refine else {name: replace(each, refine_order=0, pamr=0) for name, each in chosen.items()}


def ablation(spec: ModelSpec, method: Method | None = None) -> dict[str, Method]:
    """The rows of the paper's ablation: head aggregation, layer aggregation and rescaling, each alone and together,
    over plain averages; and the hand-picked layers where the model has some.

    Layer aggregation always chooses among the layers of ``paper``, where the plain averages may take others.

    Args:
        method: with all three, ``paper`` by default; its other settings (refinement, background ...) are those of every
            row.
    """
    method = method or PRESETS["paper"]
    parts = ("heads", "layers", "rescale", "layer_set")
    plain = replace(method, **{part: getattr(_VANILLA, part) for part in parts})
    rows = {
        "none": plain,
        "manual layers": replace(plain, layer_set="manual"),
        "head": replace(plain, heads=method.heads),
        "layer": replace(plain, layers=method.layers, layer_set=method.layer_set),
        "rescale": replace(plain, rescale=method.rescale),
        "all": method,
    }
    if not spec.manual_layers:
        del rows["manual layers"]
    return rows


@dataclass(frozen=True)
class ResolvedMethod:
    """A method on one model: nothing is left to the model any more.

    Attributes:
        method: the choices that are the same on every model (rescaling, background, threshold, PAMR, post-processing).
        heads: head rule.
        layers: layer rule.
        cross_layers: layers whose cross-attention is aggregated.
        reference_layer: layer that gives the reference features.
        refine_layers: layers whose self-attention refines the maps.
        refine_order: how often it is applied.
        views: the forwards whose maps are averaged: (timestep, flipped), the model's own timestep first.
        notes: sentences about choices that have no effect on this model.
    """

    method: Method
    heads: str
    layers: str
    cross_layers: tuple[str, ...]
    reference_layer: str
    refine_layers: tuple[str, ...]
    refine_order: int
    views: tuple[View, ...]
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of :class:`Method` as they are on the model, as JSON values."""
        own = {name: getattr(self, name) for name in ("heads", "layers", "refine_order")}
        timestep = self.views[0][0]
        return {**vars(self.method), **own, "timestep": int(timestep) if timestep == int(timestep) else timestep}


def check(method: Method, spec: ModelSpec, family: type[Backbone] | None = None) -> None:
    """Whether a method can work on a model, as far as can be told before the model is loaded.

    Args:
        family: of the model; by default that of the first pipeline that the spec names.

    Raises:
        ValueError: it cannot: hand-picked layers where the model has none, layer weights and refinement without
            self-attention maps, or timesteps beyond the schedule.
    """
    if method.layer_set == "manual" and not spec.manual_layers:
        raise ValueError(
            f"{spec.name} has no hand-picked layers for the preset 'manual' and its layer set 'manual'; take the "
            "preset 'paper' or 'vanilla', or the layer set 'selected', 'vanilla', 'all' or 'reference'"
        )
    highest = max(timestep for timestep, _ in _views(method, spec))
    if highest > LAST_TIMESTEP:
        raise ValueError(
            f"{method.timesteps} timesteps around {method.timestep or spec.timestep} reach {highest}, beyond "
            f"{LAST_TIMESTEP}; take fewer timesteps or a lower timestep"
        )
    by_self_attention = method.layers not in (None, "vanilla") or (method.refine_order or 0) > 0
    if by_self_attention and not (family or BACKBONES[spec.pipelines[0]]).self_maps:
        raise ValueError(
            f"{spec.name} has no self-attention maps, by which layers are weighed and maps refined; "
            "take layer rule 'vanilla' and refinement order 0, or leave both to the model"
        )


def resolve(method: Method, spec: ModelSpec, backbone: Backbone, fast: bool = False) -> ResolvedMethod:
    """What a method comes to on a model: each ``None`` and each layer set replaced by the model's own.

    Args:
        fast: leave out the layers after the last that gives reference features or refines, unless that leaves none.

    Raises:
        ValueError: the method cannot work on the model, see :func:`check`.
    """
    check(method, spec, type(backbone))
    selected, refine_layers = spec.cross_layers or backbone.layers, spec.refine_layers
    if method.layer_set == "vanilla":
        refine_layers = spec.vanilla_refine_layers or refine_layers
    layer_sets = {
        "selected": selected,
        "vanilla": spec.vanilla_layers or selected,
        "manual": spec.manual_layers,
        "all": backbone.layers,
        "reference": (spec.reference_layer,),
    }
    cross = layer_sets[method.layer_set]
    if fast:
        last = max(backbone.layers.index(layer) for layer in (spec.reference_layer, *refine_layers))
        cross = tuple(layer for layer in cross if layer in backbone.layers[: last + 1]) or cross
    return ResolvedMethod(
        method=method,
        heads=method.heads or spec.head_rule,
        layers=method.layers or spec.layer_rule,
        cross_layers=cross,
        reference_layer=spec.reference_layer,
        refine_layers=refine_layers,
        refine_order=spec.refine_order if method.refine_order is None else method.refine_order,
        views=_views(method, spec),
        notes=_notes(method, spec, backbone, cross),
    )


def _views(method: Method, spec: ModelSpec) -> tuple[View, ...]:
    """Timesteps t, 1.5 t, t / 1.5, 2 t, t / 2 ..., each as it is and, with ``flip``, mirrored."""
    timestep = spec.exact_timestep if method.timestep is None else method.timestep
    factors = [1.0, *(factor for k in range(1, method.timesteps) for factor in (1 + 0.5 * k, 1 / (1 + 0.5 * k)))]
    timesteps = [timestep, *(round(timestep * factor) for factor in factors[1 : method.timesteps])]
    return tuple((each, flipped) for each in timesteps for flipped in ((False, True) if method.flip else (False,)))


def _notes(method: Method, spec: ModelSpec, backbone: Backbone, layers: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each choice that has no effect."""
    notes = []
    if method.heads not in (None, "average") and not any(map(backbone.weighs_heads, layers)):
        notes.append(
            f"head rule {method.heads!r} has no effect on {spec.name}: no layer that is aggregated has an output "
            "projection of its own, so all heads count the same"
        )
    if method.layers not in (None, "vanilla") and len(layers) == 1:
        notes.append(f"layer rule {method.layers!r} has no effect: only one layer is aggregated, {layers[0]}")
    if method.refine_order and not spec.refine_layers:
        notes.append(f"refinement order {method.refine_order} has no effect: {spec.name} has no layers that refine")
    if method.threshold is not None and method.background == "exact":
        notes.append("the threshold has no effect: background rule 'exact' takes none")
    return tuple(notes)
