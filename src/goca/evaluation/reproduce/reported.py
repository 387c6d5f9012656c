"""The paper's tables: what was measured on what, and the numbers that it reports, in percent but for FID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DATASETS = ("voc", "context", "coco-object", "cityscapes", "ade20k")
TITLES = {
    "voc": "VOC",
    "context": "Context",
    "coco-object": "COCO-Object",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "vanilla": "vanilla",
    "fttm": "FTTM",
    "paper": "GoCA",
    "cfg": "CFG",
    "s-cfg": "S-CFG",
    "goca": "GoCA + S-CFG",
    "fid": "FID",
    "clip": "CLIP score",
    "frechet": "Frechet distance",
    "object_recall": "object recall",
    "mask_miou": "mask mIoU",
}
"""What readers know rows and columns as; others are called what they are called here."""
GENERATION_SCALE = 5.0
GENERATION_SEED = 42
GENERATION_STEPS = {"sd15": 50, "pixart-sigma": 20, "pixart-sigma-512": 20}
"""By model; others take their pipeline's own number."""
GENERATION_PROMPTS = 30_000

_MIOU = {
    ("vanilla", "sd15"): (44.3, 32.3, 32.3, 11.8, 18.0),
    ("vanilla", "flux-dev"): (55.7, 48.4, 43.3, 25.6, 24.5),
    ("fttm", "sd15"): (48.9, 30.0, 34.6, 12.3, 20.3),
    ("paper", "sd15"): (60.7, 40.4, 39.2, 16.1, 22.0),
    ("paper", "sdxl"): (65.6, 42.3, 44.3, 21.2, 23.2),
    ("paper", "pixart-sigma"): (63.6, 43.2, 39.8, 22.6, 23.8),
    ("paper", "flux-dev"): (70.7, 51.1, 48.1, 27.1, 29.3),
}
_ABLATION = {
    "sd15": {"none": 44.3, "manual layers": 51.1, "head": 44.8, "layer": 52.1, "rescale": 52.6, "all": 60.7},
    "sdxl": {"none": 51.1, "head": 56.1, "layer": 51.3, "rescale": 51.4, "all": 65.6},
}
_GENERATION = {"cfg": (19.27, 31.34), "s-cfg": (19.15, 31.35), "goca": (18.82, 31.42)}


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper.

    Attributes:
        title: what it holds.
        models: whose rows it has.
        datasets: what they are measured on.
        numbers: what is reported, by (row, model, column).
    """

    title: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    numbers: Mapping[tuple[str, str, str], float] = field(default_factory=dict)


TABLES: dict[str, PublishedTable] = {
    "table-1": PublishedTable(
        "mIoU of segmentation in %",
        ("sd15", "sdxl", "pixart-sigma", "flux-dev"),
        DATASETS,
        {
            (method, model, dataset): value
            for (method, model), values in _MIOU.items()
            for dataset, value in zip(DATASETS, values, strict=True)
        },
    ),
    "ablation": PublishedTable(
        "mIoU in % by what is added to plain averages",
        ("sd15", "sdxl"),
        ("voc",),
        {(row, model, "voc"): value for model, rows in _ABLATION.items() for row, value in rows.items()},
    ),
    "generation": PublishedTable(
        f"images drawn by guidance of scale {GENERATION_SCALE:g}",
        ("sd15",),
        ("coco-30k",),
        {
            (kind, "sd15", measure): value
            for kind, values in _GENERATION.items()
            for measure, value in zip(("fid", "clip"), values, strict=True)
        },
    ),
}
