"""Draws overlays of generated scenes beside those of supervision, and times them; needs the extra ``test``.

    python benchmarks/overlays.py [--out docs/images] [--images FOLDER --labels FOLDER --names NAMES.txt]

Writes overlays.webp: true masks of scenes, drawn by goca and by supervision's MaskAnnotator, PolygonAnnotator and
LabelAnnotator with their defaults. With ``--images`` it shows three images of a folder, whose labels are pictures of
the same stems with indices into the lines of NAMES.txt. Prints processor time of ``Segmentation.overlay`` by size.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import supervision
from PIL import Image

from goca import Segmentation
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.render import enlarged, run_colours

SERIES, SCENES = 5, (0, 7, 23)
SIZES, REPEATS = ((128, 128), (512, 512), (4000, 3000)), 9
GAP, SIDE, QUALITY = 16, 512, 88


def scene(index: int) -> Segmentation:
    """A scene with its true masks."""
    drawn = make_scene(SERIES, index)
    present = np.unique(drawn.labels)
    return as_result(drawn.image, np.searchsorted(present, drawn.labels), [CLASS_NAMES[value] for value in present])


def as_result(image: Image.Image, labels: np.ndarray, names: list[str]) -> Segmentation:
    """Labels as if they had been predicted."""
    maps = np.zeros((len(names), 1, 1), dtype=np.float32)
    return Segmentation(image, tuple(names), labels.astype(np.int64), maps)


def of_supervision(result: Segmentation) -> Image.Image:
    """The same by supervision's annotators, at the size that goca draws."""
    image = enlarged(result.image)
    factor = image.width // result.image.width
    labels = result.labels.repeat(factor, axis=0).repeat(factor, axis=1)
    large = as_result(image, labels, list(result.classes))
    detections = large.to_supervision()
    picture = large.image.copy()
    for annotator in (supervision.MaskAnnotator(), supervision.PolygonAnnotator(), supervision.LabelAnnotator()):
        picture = annotator.annotate(picture, detections)
    return picture


def milliseconds(result: Segmentation) -> float:
    """Median processor time of an overlay."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        result.overlay()
        times.append(time.process_time() - start)
    return 1000 * sorted(times)[REPEATS // 2]


def side_by_side(results: list[Segmentation]) -> Image.Image:
    """goca's overlays above supervision's."""
    rows = [[result.overlay() for result in results], [of_supervision(result) for result in results]]
    rows = [[each.resize((SIDE, round(each.height * SIDE / each.width))) for each in row] for row in rows]
    heights = [max(each.height for each in row) + GAP for row in rows]
    canvas = Image.new("RGB", (len(results) * (SIDE + GAP) - GAP, sum(heights) - GAP), "white")
    for row, top in zip(rows, (0, heights[0]), strict=True):
        for column, each in enumerate(row):
            canvas.paste(each, (column * (SIDE + GAP), top))
    return canvas


def read_folder(images: Path, labels: Path, names: Path) -> list[Segmentation]:
    """Three images of a folder with their labels."""
    paths = sorted(path for path in images.iterdir() if path.is_file())
    results = []
    for path in paths[:: max(1, len(paths) // len(SCENES))][: len(SCENES)]:
        indices = np.asarray(Image.open(labels / f"{path.stem}.png"))
        results.append(as_result(Image.open(path).convert("RGB"), indices, names.read_text().split("\n")))
    return results


def main() -> None:
    """Write the picture, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    for option in ("--images", "--labels", "--names"):
        parser.add_argument(option, type=Path)
    arguments = parser.parse_args()
    if arguments.images:
        results = read_folder(arguments.images, arguments.labels, arguments.names)
    else:
        results = [scene(index) for index in SCENES]
    colours = run_colours(result.classes for result in results)
    results = [result.with_colours(colours) for result in results]
    arguments.out.mkdir(parents=True, exist_ok=True)
    side_by_side(results).save(arguments.out / "overlays.webp", quality=QUALITY)
    result = scene(SCENES[-1])
    for size in SIZES:
        indices = Image.fromarray(result.labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        scaled = as_result(result.image.resize(size), np.asarray(indices), list(result.classes))
        print(f"{size[0]} x {size[1]}, {len(result.classes)} classes: {milliseconds(scaled):.0f} ms")


if __name__ == "__main__":
    main()
