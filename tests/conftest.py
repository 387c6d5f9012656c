"""Shape-typed signatures are checked in every test; tiny pipelines and a browser are started once per session."""

from __future__ import annotations

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors gain nothing from more, and tests run side by side

from jaxtyping import install_import_hook

install_import_hook("goca", "beartype.beartype")

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
import tiny  # noqa: E402
from tiny import parts  # noqa: E402

from goca.backbones import Backbone  # noqa: E402
from goca.models import wrap  # noqa: E402

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
QUICK_FAMILIES = ("unet", "dit", "flux")  # of each kind of attention, and of each kind of grid, one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs for every family is slow for all but a few, whose own tests stay quick."""
    for item in items:
        family = getattr(item, "callspec", None) and item.callspec.params.get("family")  # type: ignore[attr-defined]
        if family in tiny.FAMILIES and family not in QUICK_FAMILIES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def unet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved StableDiffusionPipeline."""
    return parts.save(tiny.unet.build(), tmp_path_factory.mktemp("unet"))


@pytest.fixture(scope="session")
def dit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved PixArtAlphaPipeline."""
    return parts.save(tiny.dit.build(), tmp_path_factory.mktemp("dit"))


@pytest.fixture(params=list(tiny.FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Every family, one after the other."""
    return request.param


@pytest.fixture
def pipeline(family: str) -> Any:
    """A fresh tiny pipeline of the family; tests may change it."""
    return tiny.FAMILIES[family].build()


@pytest.fixture
def backbone(pipeline: Any) -> Backbone:
    """The backbone of that pipeline, with derived settings."""
    return wrap("tiny", pipeline).backbone


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running Chromium; tests are skipped where it, or Playwright, is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=[*CHROMIUM, "--disable-component-update"])
        yield started
        started.close()
