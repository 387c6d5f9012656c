"""What is there to measure with: data sets with their captions below one folder, and checkpoints on this machine."""

from __future__ import annotations

from pathlib import Path

from goca.datasets.published import PUBLISHED_KEYS
from goca.evaluation.experiment import Experiment
from goca.evaluation.protocols import find_protocol
from goca.evaluation.reproduce.reported import GENERATION_PROMPTS
from goca.models.loading import find_source
from goca.models.specs import MODELS

SCENES = "scenes"
COCO_30K = "coco-30k"


class Missing(Exception):
    """Something is not at hand; the message says what, and where to get it."""


def open_experiment(key: str, root: Path | None, limit: int | None) -> Experiment:
    """A data set by protocol ``paper``, from ``ROOT/KEY`` or ``ROOT`` itself.

    Captions are ``ROOT/captions/KEY.json`` or ``captions.json`` in the data set's folder; without published words, the
    data set's own.

    Raises:
        Missing: its files or captions. ValueError: captions that do not fit it.
    """
    if key == SCENES:
        return Experiment.open(key, protocol="paper", limit=limit)
    if root is None:
        raise Missing(f"{key}: no folder of data; name one with --root")
    folder = root / key if (root / key).is_dir() else root
    try:
        Experiment.open(key, root=folder, protocol="paper", limit=limit)
    except (ValueError, OSError) as error:
        raise Missing(f"{key}: {error}") from error
    captions = find_captions(key, root, folder)
    if captions is None and key in PUBLISHED_KEYS:
        split = find_protocol("paper", key).split
        question = f"--dataset {key} --root {folder}{f' --split {split}' if split else ''} --question published"
        file = root / "captions" / f"{key}.json"
        raise Missing(
            f"{key}: its captions; put the published caption file at {file}, or write captions there with "
            f"'goca caption {question} --model NAME --out {file}'"
        )
    return Experiment.open(
        key, root=folder, protocol="paper", limit=limit, captions=None if captions is None else str(captions)
    )


def find_captions(key: str, root: Path, folder: Path) -> Path | None:
    """The caption file of a data set, if there is one."""
    places = [root / "captions" / f"{key}.json", *([] if folder == root else [folder / "captions.json"])]
    return next((place for place in places if place.is_file()), None)


def find_photographs(root: Path | None) -> Path:
    """The folder of photographs and captions that generated images are compared with.

    Raises:
        Missing: it is not there.
    """
    if root is None:
        raise Missing(f"{COCO_30K}: no folder of data; name one with --root")
    folder = root / COCO_30K
    if not (folder / "images").is_dir() or not (folder / "captions.json").is_file():
        raise Missing(
            f"{COCO_30K}: {folder} with images/ (photographs of COCO val2014, from the COCO site cocodataset.org) and "
            f"captions.json (one caption for each of {GENERATION_PROMPTS:,} of them)"
        )
    return folder


def find_checkpoint(name: str, root: Path | None) -> str:
    """What to load for a model: ``ROOT/models/NAME`` if it is there, else the name itself.

    Raises:
        Missing: its weights are not on this machine. ValueError: a name that nothing has.
    """
    from huggingface_hub import try_to_load_from_cache

    spec = MODELS.get(name)
    if spec is not None and root is not None and (root / "models" / name).is_dir():
        return str(root / "models" / name)
    sources = [find_source(name), *([spec.rest_source] if spec is not None and spec.rest_source else [])]
    whole = sources[-1]
    if not Path(whole).exists() and not isinstance(try_to_load_from_cache(whole, "model_index.json"), str):
        fetch = " && ".join(f"hf download {source}" for source in sources)
        folder = "" if root is None else f", or put its whole pipeline at {root / 'models' / name}"
        raise Missing(f"{name}: its checkpoint is not on this machine; get it with '{fetch}'{folder}")
    return name
