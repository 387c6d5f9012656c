"""Which family records a pipeline, and families of the user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from goca import backbones
from goca.backbones import BACKBONES, Families, register
from goca.backbones.base import Backbone
from goca.backbones.dit import DiTBackbone
from goca.models import load, wrap


def test_every_entry_of_the_table_is_a_pipeline_of_its_family() -> None:
    assert all(pipeline in family.pipelines for pipeline, family in BACKBONES.items())
    assert {name for family in BACKBONES.values() for name in family.pipelines} == set(BACKBONES)
    assert len(BACKBONES) == 18 and "NoPipeline" not in BACKBONES


def test_only_the_family_that_is_needed_is_imported() -> None:
    code = (
        "import sys, goca.backbones as b; assert 'torch' not in sys.modules; b.BACKBONES['PixArtAlphaPipeline'];"
        "print(*sorted(name for name in sys.modules if name.startswith('goca.backbones.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.removeprefix("goca.backbones.") for name in done.stdout.split()}
    homes = {home for home, _ in BACKBONES._homes.values()}
    assert modules & homes == {"dit"} and {"base", "cross"} <= modules


def test_names_of_the_contract_are_imported_on_access() -> None:
    assert backbones.Backbone is Backbone
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = backbones.Nothing


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Families:
    """A table that a test may change."""
    changed = Families({"PixArtAlphaPipeline": ("dit", "DiTBackbone")})
    monkeypatch.setattr("goca.backbones.BACKBONES", changed)
    return changed


def test_a_family_of_the_users_own_is_used(table: Families, tmp_path: Path) -> None:
    @register
    class OwnBackbone(DiTBackbone):
        pipelines = ("OwnPipeline",)

        @property
        def max_tokens(self) -> int:
            return 8

    assert table["OwnPipeline"] is OwnBackbone and set(table) == {"PixArtAlphaPipeline", "OwnPipeline"}
    register(OwnBackbone)  # once more does no harm
    pipeline = tiny.dit.build()
    pipeline.__class__ = type("OwnPipeline", (type(pipeline),), {})
    assert isinstance(wrap("mine", pipeline).backbone, OwnBackbone)
    (tmp_path / "model_index.json").write_text('{"_class_name": "OwnPipeline"}')
    with pytest.raises(ValueError, match=r"OwnPipeline, which diffusers does not have; load it yourself and use"):
        load(str(tmp_path), device="cpu")


def test_a_pipeline_that_has_a_family_is_refused(table: Families) -> None:
    class OwnBackbone(DiTBackbone):
        pipelines = ("OwnPipeline", "PixArtAlphaPipeline")

    with pytest.raises(ValueError, match=r"already belongs to the family DiTBackbone; take it out of OwnBackbone"):
        register(OwnBackbone)
    assert set(table) == {"PixArtAlphaPipeline"}
