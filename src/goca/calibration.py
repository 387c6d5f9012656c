"""From the raw score of a mask to the IoU that such masks had where it was measured: a logistic curve, fitted and kept.

With the raw score x, the mean margin inside a mask, the calibrated confidence is::

    p(x) = 1 / (1 + exp(-(slope x + offset))),  slope >= 0
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from goca.storage.atomic import write_atomically
from goca.storage.fields import check_keys, number, text
from goca.storage.json_reader import parse_json, read_json

FORMAT = 1
CALIBRATION = "calibration.json"
STEEPEST = 1e4
RAW_MEANING = "mean margin over the next class inside the mask"
UNCALIBRATED = f"{RAW_MEANING}; no calibration holds for this model, method and image"
ROUNDS, RIDGE = 50, 1e-3


@dataclass(frozen=True)
class Calibration:
    """A fitted curve, and what it holds for.

    Attributes:
        slope: of the curve, 0 or more.
        offset: of the curve.
        settings: model, weights and method that it was fitted for, see :meth:`goca.Segmenter.calibrated_settings`.
        data: what it was fitted on, for people.
    """

    slope: float
    offset: float
    settings: Mapping[str, Any]
    data: str

    @property
    def meaning(self) -> str:
        """What :meth:`__call__` gives, in words."""
        return f"expected IoU with the true mask, fitted on {self.data}"

    def __call__(self, raw: float) -> float:
        """The expected IoU of a mask with this raw score, both in [0, 1]."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.slope * raw + self.offset))))

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> Calibration:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: a field that is missing, unknown or of another type, or a newer format.
        """
        check_keys(content, ("format", "slope", "offset", "settings", "data"))
        if content["format"] != FORMAT:
            raise ValueError(f"it has the format {content['format']!r} of a newer goca; update goca")
        if not isinstance(content["settings"], Mapping):
            raise ValueError("its settings are no object")
        slope, offset = number(content, "slope", 0.0, STEEPEST), number(content, "offset", -STEEPEST, STEEPEST)
        return cls(slope, offset, content["settings"], text(content, "data"))

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        write_atomically(Path(path), json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def load_calibration(path: str | Path) -> Calibration:
    """What :meth:`Calibration.save` wrote.

    Raises:
        ValueError: the file is damaged or of another kind. OSError: it cannot be read.
    """
    content = read_json(path)
    try:
        return Calibration.from_json(content)
    except ValueError as error:
        raise ValueError(f"{path} holds no calibration ({error}); write one with goca calibrate --out") from None


def plain(settings: Mapping[str, Any]) -> Any:
    """Settings as they come back from a JSON file, so that they can be compared."""
    return parse_json(json.dumps(settings), "the settings")


def fit_logistic(raw: Float[np.ndarray, " masks"], iou: Float[np.ndarray, " masks"]) -> tuple[float, float]:
    """Slope and offset with the least cross-entropy between p(x) and the IoU, by Newton's method with a small ridge.

    A curve that would fall is replaced by a level one: a lower margin never means a better mask.

    Raises:
        ValueError: no masks.
    """
    if not len(raw):
        raise ValueError("there are no masks to fit a calibration on; take more images")
    design = np.stack([raw, np.ones_like(raw)], axis=1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(ROUNDS):
        expected = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (expected - iou) + RIDGE * weights
        curvature = (design * (expected * (1 - expected))[:, None]).T @ design + RIDGE * np.eye(2)
        weights -= np.linalg.solve(curvature, gradient)
    if weights[0] < 0:
        mean = float(np.clip(iou.mean(), 1e-3, 1 - 1e-3))
        return 0.0, math.log(mean / (1 - mean))
    return float(min(weights[0], STEEPEST)), float(np.clip(weights[1], -STEEPEST, STEEPEST))
