"""Shape-typed signatures are checked in every test; tiny pipelines are built once per session."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

install_import_hook("goca", "beartype.beartype")

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
import tiny  # noqa: E402

from goca.backbones import Backbone, DiTBackbone, UNetBackbone  # noqa: E402

REFERENCES = {"unet": "up_blocks.1.attentions.1.transformer_blocks.0", "dit": "transformer_blocks.1"}


@pytest.fixture(scope="session")
def unet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved StableDiffusionPipeline."""
    return tiny.save(tiny.unet_pipeline(), tmp_path_factory.mktemp("unet"))


@pytest.fixture(scope="session")
def dit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved PixArtAlphaPipeline."""
    return tiny.save(tiny.dit_pipeline(), tmp_path_factory.mktemp("dit"))


@pytest.fixture(params=["unet", "dit"])
def family(request: pytest.FixtureRequest) -> str:
    """Both families, one after the other."""
    return request.param


@pytest.fixture
def pipeline(family: str) -> Any:
    """A fresh tiny pipeline of the family; tests may change it."""
    return tiny.unet_pipeline() if family == "unet" else tiny.dit_pipeline()


@pytest.fixture
def backbone(family: str, pipeline: Any) -> Backbone:
    """The backbone of that pipeline."""
    kind = UNetBackbone if family == "unet" else DiTBackbone
    return kind(pipeline, REFERENCES[family])
