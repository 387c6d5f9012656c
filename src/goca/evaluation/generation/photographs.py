"""FID and CLIP score of models of photographs, by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from goca.datasets.files import list_files
from goca.evaluation.generation.measures import Counts, Values
from goca.guidance.generate import Generation
from goca.image_files import IMAGE_SUFFIXES
from goca.images import load_file
from goca.storage.captions import load_captions
from goca.storage.digest import file_digest, json_digest
from goca.storage.fields import check_keys, number
from goca.storage.journal import Entry

NEEDED = (
    "FID and CLIP score need torchmetrics, torch-fidelity and the weights of Inception and CLIP: "
    "run pip install 'goca[metrics]', and once with a network, so that the weights are downloaded"
)


class PhotoMeasures:
    """FID against a folder of photographs and CLIP score with their captions, which are the prompts.

    Args:
        root: holds ``images/`` and ``captions.json``.
        prompts: how many of the captions, in the order of the file, are drawn.

    Raises:
        ValueError: torchmetrics or weights are missing, or the folder does not hold enough.
    """

    def __init__(self, root: Path, prompts: int) -> None:
        self.columns = {"fid": "FID", "clip": "CLIP score"}
        self.photos = [*list_files(root / "images", IMAGE_SUFFIXES).values()] if (root / "images").is_dir() else []
        captions = load_captions(root / "captions.json")
        if len(captions) < prompts or len(self.photos) < 2:
            raise ValueError(
                f"{root} holds {len(self.photos)} photographs in images/ and {len(captions)} captions in "
                f"captions.json, too few for {prompts} prompts; add some or lower --prompts"
            )
        self.prompts = list(captions.values())[:prompts]
        self.settings: dict[str, Any] = {"prompts": prompts, "photos": str(root), "number": len(self.photos)}
        self.settings["photographs"] = json_digest([file_digest(path) for path in self.photos])
        self.settings["captions"] = json_digest(self.prompts)
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
            from torchmetrics.multimodal.clip_score import CLIPScore

            self.fid: Any = FrechetInceptionDistance(reset_real_features=False)
            self.clip: Any = CLIPScore()
        except (ImportError, OSError) as error:
            raise ValueError(NEEDED) from error

    def things(self, index: int) -> None:
        """Nobody is there to judge masks."""

    def measure(self, index: int, result: Generation) -> Entry:
        """CLIP score of one image."""
        return {"clip": float(self.clip(as_pixels(result.image), self.prompts[index]))}

    def check(self, index: int, entry: Entry) -> None:
        """A CLIP score alone."""
        check_keys(entry, ("clip",))
        number(entry, "clip", -100.0, 100.0)

    def real(self, counts: Counts) -> None:
        """The photographs are what is compared with."""

    def values(self, entries: Sequence[Entry], paths: Sequence[Path], counts: Counts) -> Values:
        """CLIP score of every set; FID of the first alone, without an interval as it is always reported."""
        self.fid.reset()
        photos = [] if self.fid.real_features_num_samples else self.photos  # which a reset keeps
        for real, files in ((True, photos), (False, paths)):
            for path in files:
                self.fid.update(as_pixels(load_file(path))[None], real=real)
        scores = np.array([each["clip"] for each in entries])
        return {"fid": np.array([float(self.fid.compute())]), "clip": counts @ scores / len(scores)}


def as_pixels(image: Image.Image) -> Tensor:
    """3 x height x width, 0 to 255."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
