"""Formats of one image: its labels, overlay and heat maps as pictures, and their description as JSON."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goca.storage.atomic import write_atomically
from goca.storage.names import file_names
from goca.storage.png import read_texts, write_png

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.result import Segmentation


def labels_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """``STEM_labels.png``"""
    return {"labels": folder / f"{stem}_labels.png"}


def write_labels(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_labels.png``: a palette picture whose pixel values are the labels."""
    files = labels_files(folder, stem, result.classes)
    write_png(result.label_image(), files["labels"])
    return files


def overlay_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """``STEM_overlay.png``"""
    return {"overlay": folder / f"{stem}_overlay.png"}


def write_overlay(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_overlay.png``: the image under its classes' colours, with outlines, names and a colour key."""
    files = overlay_files(folder, stem, result.classes)
    write_png(result.overlay(), files["overlay"])
    return files


def heat_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """``STEM_heat_CLASS.png`` for each class"""
    slugs = zip(classes, file_names(classes), strict=True)
    return {f"heat {name}": folder / f"{stem}_heat_{slug}.png" for name, slug in slugs}


def write_heat_maps(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM_heat_CLASS.png`` for each class: its scores over the grey image. A text in the file tells the stem."""
    files = heat_files(folder, stem, result.classes)
    for name, path in zip(result.classes, files.values(), strict=True):
        write_png(result.heat_map(name), path, Title=_heat_title(stem))
    return files


def earlier_heat_maps(folder: Path, stem: str) -> list[Path]:
    """The heat maps of an earlier result with that stem, whatever its classes; files of other origin are left out."""
    found = sorted(folder.glob(f"{glob.escape(stem)}_heat_*.png"))
    return [path for path in found if read_texts(path).get("Title") == _heat_title(stem)]


def _heat_title(stem: str) -> str:
    return f"heat map of {stem}"


def description_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """``STEM.json``"""
    return {"json": folder / f"{stem}.json"}


def write_description(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM.json``: see :meth:`goca.Segmentation.to_dict`."""
    files = description_files(folder, stem, result.classes)
    write_atomically(files["json"], json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return files


def page_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """``STEM.html``"""
    return {"html": folder / f"{stem}.html"}


def write_page(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM.html``: image, maps and labels in one page, see :meth:`goca.Segmentation.save_html`."""
    files = page_files(folder, stem, result.classes)
    result.save_html(files["html"])
    return files
