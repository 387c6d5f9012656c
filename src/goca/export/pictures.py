"""Formats of one image: its labels, overlay and heat maps as pictures, and their description as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from goca.storage.names import file_names

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation


def write_labels(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_labels.png``: a palette picture whose pixel values are the labels."""
    path = folder / f"{stem}_labels.png"
    result.label_image().save(path)
    return {"labels": path}


def write_overlay(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_overlay.png``: the image under its classes' colours, above a legend."""
    path = folder / f"{stem}_overlay.png"
    result.overlay().save(path)
    return {"overlay": path}


def write_heat_maps(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_heat_CLASS.png`` for each class: its scores over the grey image."""
    slugs = zip(result.classes, file_names(result.classes), strict=True)
    files = {name: folder / f"{stem}_heat_{slug}.png" for name, slug in slugs}
    for name, path in files.items():
        result.heat_map(name).save(path)
    return {f"heat {name}": path for name, path in files.items()}


def write_description(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM.json``: see :meth:`goca.Segmentation.to_dict`."""
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"json": path}
