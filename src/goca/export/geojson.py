"""GeoJSON polygons in pixels of the image, for viewers of maps and slides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goca.storage.atomic import write_atomically

if TYPE_CHECKING:
    from goca.export.registry import Files
    from goca.polygons import Ring
    from goca.result import Segmentation


def geojson_files(folder: Path, stem: str, classes: Sequence[str]) -> Files:
    """Where :func:`write_geojson` writes."""
    return {"geojson": folder / f"{stem}.geojson"}


def write_geojson(result: Segmentation, folder: Path, stem: str) -> Files:
    """``STEM.geojson``: one MultiPolygon for each class but the background; (x, y) are corners of pixels, y down."""
    features = [
        {
            "type": "Feature",
            "properties": {"class": segment.name, "area": segment.area, "confidence": segment.confidence},
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [close(ring) for ring in (polygon.outer, *polygon.holes)] for polygon in segment.polygons()
                ],
            },
        }
        for segment in result
    ]
    files = geojson_files(folder, stem, result.classes)
    content = {"type": "FeatureCollection", "features": features}
    write_atomically(files["geojson"], json.dumps(content, ensure_ascii=False) + "\n")
    return files


def close(ring: Ring) -> list[list[int]]:
    """The corners, the first once more at the end."""
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]
