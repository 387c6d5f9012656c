"""Methods check themselves, and are resolved against a model once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import tiny
from PIL import Image

from goca.method import (
    BASELINES,
    BUILT_IN,
    MASKS,
    PRESETS,
    RULES,
    Method,
    ablation,
    check,
    find_method,
    find_methods,
    resolve,
)
from goca.models import wrap
from goca.models.loading import LoadedModel
from goca.models.specs import MODELS
from goca.segmenter import Segmenter

IMAGE = Image.radial_gradient("L").resize((40, 30)).convert("RGB")


def tiny_model(family: str = "dit") -> LoadedModel:
    return wrap("tiny", tiny.FAMILIES[family].build())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": "nonsense"}, r"unknown head rule 'nonsense'; choose one of average, l2-norm"),
        ({"heads": "l2 norm"}, r"unknown head rule 'l2 norm' \(did you mean 'l2-norm'\?\)"),
        ({"layers": "cosine"}, "unknown layer rule 'cosine'"),
        ({"rescale": None}, "unknown rescaling rule 'None'"),
        ({"background": "min"}, "unknown background rule 'min'"),
        ({"post": "crfs"}, "unknown post-processing 'crfs'"),
        ({"layer_set": "some"}, "unknown layer set 'some'; choose one of selected, vanilla, manual, all, reference"),
        ({"timesteps": 0}, "timesteps is a whole number of at least 1, not 0"),
        ({"timesteps": 1.5}, "timesteps is a whole number of at least 1, not 1.5"),
        ({"timesteps": True}, "timesteps is a whole number of at least 1, not True"),
        ({"refine_order": -1}, "refine_order is a whole number of at least 0, not -1"),
        ({"pamr": -1}, "pamr is a whole number of at least 0, not -1"),
        ({"threshold": float("nan")}, "threshold is a finite number from -1 to 1, not nan"),
        ({"threshold": "0.3"}, "threshold is a finite number from -1 to 1, not '0.3'"),
        ({"flip": 1}, "flip is True or False, not 1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Method(**settings)
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["paper"], **settings)


def test_the_built_in_names_are_those_of_the_tables() -> None:
    for field, (_, path) in RULES.items():
        module, _, table = path.rpartition(".")
        assert set(BUILT_IN[field]) == set(getattr(import_module(module), table))


def test_presets_need_no_torch() -> None:
    code = "import sys, goca.method, goca.plugins; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_left_to_the_model() -> None:
    model = tiny_model()
    spec = replace(model.spec, timestep=90, refine_order=3, head_rule="cosine", layer_rule="mse")
    found = resolve(Method(), spec, model.backbone)
    assert (found.heads, found.layers, found.refine_order, found.views) == ("cosine", "mse", 3, ((90, False),))
    assert found.cross_layers == model.backbone.layers and found.notes == ()
    own = resolve(Method("average", "vanilla", refine_order=0, timesteps=2, flip=True), spec, model.backbone)
    assert (own.heads, own.layers, own.refine_order) == ("average", "vanilla", 0)
    assert own.views == ((90, False), (90, True), (135, False), (135, True))


def test_layer_sets() -> None:
    model = tiny_model()
    first, *_, last = layers = model.backbone.layers
    spec = replace(model.spec, cross_layers=(first, last), manual_layers=(last,), reference_layer=first)
    found = {each: resolve(Method(layer_set=each), spec, model.backbone).cross_layers for each in ("selected", "all")}
    assert found == {"selected": (first, last), "all": layers}
    assert resolve(PRESETS["manual"], spec, model.backbone).cross_layers == (last,)
    assert resolve(BASELINES["single-layer"], spec, model.backbone).cross_layers == (first,)
    same = resolve(PRESETS["vanilla"], spec, model.backbone)
    assert (same.cross_layers, same.refine_layers) == ((first, last), spec.refine_layers)
    other = replace(spec, vanilla_layers=(last,), vanilla_refine_layers=(first,))
    for name in ("vanilla", "vanilla+pamr", "vanilla+crf"):
        found = resolve(find_method(name), other, model.backbone)
        assert (found.cross_layers, found.refine_layers) == ((last,), (first,))
    rows = {name: resolve(row, other, model.backbone) for name, row in ablation(other).items()}
    assert [rows[name].cross_layers for name in ("none", "head", "rescale")] == [(last,)] * 3
    assert rows["layer"].cross_layers == rows["all"].cross_layers == (first, last)
    assert rows["all"].refine_layers == spec.refine_layers


def test_the_timestep_is_that_of_the_schedule() -> None:
    model = tiny_model("flux")
    spec = replace(model.spec, timestep=179, schedule_steps=28)
    views = resolve(Method(timesteps=2), spec, model.backbone).views
    assert views == ((5000 / 28, False), (268, False))
    assert replace(spec, timestep=150).exact_timestep == 150  # no step of that schedule


def test_baselines_of_the_paper() -> None:
    vanilla, fttm = PRESETS["vanilla"], BASELINES["fttm"]
    assert (vanilla.heads, vanilla.layers, vanilla.rescale) == ("average", "vanilla", "per-token renorm+")
    assert replace(fttm, post=None) == PRESETS["manual"] and fttm.post == "fttm-crf"
    assert BASELINES["daam"].rescale == "per-token renorm"


def test_choices_without_effect_are_noted() -> None:
    flux, dit = tiny_model("flux"), tiny_model()
    singles = tuple(layer for layer in flux.backbone.layers if layer.startswith("single"))
    notes = resolve(Method(heads="l2-norm"), replace(flux.spec, cross_layers=singles), flux.backbone).notes
    assert len(notes) == 1 and notes[0].startswith("head rule 'l2-norm' has no effect on tiny")
    assert resolve(Method(heads="l2-norm"), flux.spec, flux.backbone).notes == ()
    one = resolve(Method(layers="mse", layer_set="reference"), dit.spec, dit.backbone)
    assert "only one layer is aggregated" in one.notes[0]
    assert (
        "no layers that refine"
        in resolve(Method(refine_order=2), replace(dit.spec, refine_layers=()), dit.backbone).notes[0]
    )
    result = Segmenter(dit)(IMAGE, ["cat", "sky"], method=Method(background="exact", threshold=0.1))
    assert result.notes == ("the threshold has no effect: background rule 'exact' takes none",)


def test_what_cannot_work_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.segmenter.load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ValueError, match="flux-dev has no hand-picked layers for the preset 'manual'"):
        Segmenter.from_pretrained("flux-dev", method="manual")
    with pytest.raises(ValueError, match="sana has no self-attention maps"):
        Segmenter.from_pretrained("sana", method=Method(refine_order=2))


def test_every_named_method_works_on_a_model_with_hand_picked_layers() -> None:
    for method in (*PRESETS.values(), *BASELINES.values(), *MASKS.values(), *ablation(MODELS["sd15"]).values()):
        if method is not None:
            check(method, MODELS["sd15"])
    assert find_methods(["sharp"], refine=False) == {"sharp": replace(PRESETS["sharp"], refine_order=0, pamr=0)}


def test_arguments_of_the_call_leave_the_segmenter_as_it_is() -> None:
    segmenter = Segmenter(tiny_model(), "paper")
    image = IMAGE
    with_threshold = segmenter([image], ["cat", "sky"], threshold=0.5, batch_size=1, method="vanilla")[0]
    assert with_threshold.classes == ("cat", "sky", "background")
    assert segmenter.method == PRESETS["paper"] and segmenter(image, ["cat", "sky"]).classes == ("cat", "sky")
    with pytest.raises(ValueError, match="batch_size is a whole number of at least 1, not 0"):
        segmenter([image], ["cat"], batch_size=0)
    with pytest.raises(ValueError, match="threshold is a finite number"):
        segmenter(image, ["cat"], threshold=float("inf"))


def test_old_names_of_settings_warn() -> None:
    with pytest.warns(DeprecationWarning, match="'every' is called 'all' now") as caught:
        assert Method(layer_set="every").layer_set == "all"
    with pytest.warns(DeprecationWarning, match="sharpen of Method is called pamr now"):
        method = Method(sharpen=4)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"Method\.sharpen is called pamr now"):
        assert method.sharpen == method.pamr == 4  # type: ignore[attr-defined]
    assert len(caught) == 1
