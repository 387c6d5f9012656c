"""Results of a run that are kept on the disk until the files that hold all of them are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL.Image import Image

from goca.calibration import Calibration
from goca.result import Segmentation
from goca.storage.atomic import replace_file

FOLDER = ".goca-results"


class ResultStore:
    """One ``.npz`` file a result in a hidden folder, without its image.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def save(self, stem: str, result: Segmentation) -> None:
        """Keep a result, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        calibration = None if result.calibration is None else result.calibration.to_json()
        texts = {"classes": result.classes, "notes": result.notes, "dropped": dict(result.dropped)}
        about = json.dumps({**texts, "calibration": calibration})
        labels = result.labels.astype(np.min_scalar_type(len(result.classes)))

        def write(path: Path) -> None:
            with path.open("wb") as stream:
                np.savez_compressed(stream, labels=labels, maps=result.maps, about=np.array(about))

        replace_file(self.folder / f"{stem}.npz", write)

    def load(self, stem: str, image: Image) -> Segmentation:
        """A kept result, with its image.

        Raises:
            ValueError: it is not there or damaged.
        """
        path = self.folder / f"{stem}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                labels = arrays["labels"].astype(np.int64)
                calibration = None if about["calibration"] is None else Calibration.from_json(about["calibration"])
                return Segmentation(
                    image,
                    tuple(about["classes"]),
                    labels,
                    arrays["maps"],
                    tuple(about["notes"]),
                    dropped=about["dropped"],
                    calibration=calibration,
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is missing or damaged ({error}); start anew with --overwrite") from None

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
