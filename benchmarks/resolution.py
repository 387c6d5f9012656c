"""Small things and sharp edges in large images: ways to join tiles with the whole, and ways to upsample.

    python benchmarks/resolution.py joins scenes-dit 4 [--size 512] [--detail 4] [--tiles 5] [--limit 16]
    python benchmarks/resolution.py upsampling scenes-dit 4 [--size 512] [--limit 24]
    python benchmarks/resolution.py photographs ROOT [--split test] [--cell 8] [--limit 60]
    python benchmarks/resolution.py cost scenes-dit [--width 4000] [--height 3000] [--tiles auto] [--upsample edges]

*joins* segments scenes of the series whose objects are --detail times smaller than usual; *upsampling* usual scenes
with maps that are bilinearly or edge-aware upsampled; *photographs* upsamples the share that each class of CamVid's
masks has in cells of so many pixels, so that only the upsampling is measured; *cost* is one image of random blobs. mIoU
and boundary IoU with 95% intervals of a bootstrap over the images; differences, paired, are to the first row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from goca import Segmenter
from goca.datasets import open_dataset
from goca.datasets.base import VOID
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.evaluation.generation.statistics import draw_counts
from goca.evaluation.metrics import (
    boundary_band,
    boundary_intersection_union,
    count_boundary,
    count_pixels,
    intersection_union,
    standard_mean,
)
from goca.maps.pamr import pamr
from goca.maps.post import post_process
from goca.maps.refine import stretch
from goca.maps.rescale import rescale
from goca.maps.resize import resize_maps
from goca.maps.upsample import UPSAMPLING
from goca.memory import peak_mib
from goca.method import ResolvedMethod
from goca.tiles import Mosaic, Seen, TilePlan, join, kept_tokens, look, plan_tiles, renumber
from goca.types import Prompt, ScoreMaps


class Table:
    """Rows of a comparison; every image is counted once for each row."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.rows: dict[str, list[np.ndarray]] = {}
        self.seconds: dict[str, float] = {}

    def add(self, row: str, predicted: np.ndarray, target: np.ndarray, seconds: float = 0.0) -> None:
        """Count an image's labels; :data:`VOID` pixels do not count."""
        pixels = intersection_union(count_pixels(predicted, target, self.classes, VOID))
        edges = count_boundary(predicted, target, boundary_band(target), self.classes, VOID)
        self.rows.setdefault(row, []).append(np.stack([pixels, boundary_intersection_union(edges)]))
        self.seconds[row] = self.seconds.get(row, 0.0) + seconds

    def print(self) -> None:
        """mIoU and boundary IoU of each row, and how far they are from the first row's."""
        images = len(next(iter(self.rows.values())))
        drawn = draw_counts(images).astype(np.float64)
        first = None
        print(f"{images} images")
        for row, counts in self.rows.items():
            parts = np.stack(counts)
            totals = (drawn @ parts.reshape(images, -1)).reshape(len(drawn), *parts.shape[1:])
            found = standard_mean(totals)  # sets x (whole, boundary)
            first = found if first is None else first
            line = f"{row}: mIoU {found[0, 0]:.3f}, boundary IoU {found[0, 1]:.3f}"
            if found is not first:
                low, high = np.percentile((found - first)[1:], [2.5, 97.5], axis=0)
                change = found[0] - first[0]
                line += "; " + ", ".join(
                    f"{change[part]:+.3f} [{low[part]:+.3f}, {high[part]:+.3f}]" for part in (0, 1)
                )
            print(line + (f"; {self.seconds[row] / images:.2f} s" if self.seconds[row] else ""), flush=True)


def each_tile_stretched(whole: Seen, tiles: Sequence[ScoreMaps], plan: TilePlan) -> ScoreMaps:
    """The mean of the whole and of tiles that were segmented for themselves."""
    mosaic = Mosaic(plan.grid, len(whole.scores[0].maps), whole.words.device)
    for window, scores in zip(plan.windows, tiles, strict=True):
        mosaic.add(window, scores.maps)
    own = resize_maps(whole.scores[0].maps, plan.grid)
    return with_maps(whole.scores[0], (own + mosaic.mean()) / 2)


def fitted(whole: Seen, tiles: Sequence[ScoreMaps], plan: TilePlan) -> ScoreMaps:
    """Each tile's map brought to the whole's in its window by the best linear function that does not fall."""
    own = resize_maps(whole.scores[0].maps, plan.grid)
    mosaic = Mosaic(plan.grid, len(own), own.device)
    for window, scores in zip(plan.windows, tiles, strict=True):
        wanted = own[:, window.top : window.top + window.height, window.left : window.left + window.width]
        centre, level = scores.maps.mean((1, 2), keepdim=True), wanted.mean((1, 2), keepdim=True)
        apart = scores.maps - centre
        slope = (apart * (wanted - level)).mean((1, 2), keepdim=True) / apart.square().mean((1, 2), keepdim=True)
        mosaic.add(window, slope.nan_to_num().clamp_min(0) * apart + level)
    return with_maps(whole.scores[0], mosaic.mean())


def with_maps(scores: ScoreMaps, maps: Tensor) -> ScoreMaps:
    """The same classes with other maps, without a background."""
    return ScoreMaps(scores.classes, maps, torch.zeros_like(maps[0]))


def joins(segmenter: Segmenter, image: Image.Image, prompt: Prompt, method: ResolvedMethod, tiles: int) -> dict:
    """Maps of an image by each way of joining, from the same forwards."""
    spec = segmenter.model.spec
    plan = plan_tiles(image.size, tiles, spec.image_size, spec.output_grid)
    assert plan is not None
    kept = kept_tokens(prompt)
    whole = look(segmenter, [image], prompt, method, 0, kept)
    mosaic = Mosaic(plan.grid, len(kept), whole.words.device)
    scores = []
    for window in plan.windows:
        seen = look(segmenter, [window.crop(image, plan.grid)], prompt, method, 0, kept)
        scores += seen.scores
        mosaic.add(window, seen.words[0])
    words = (mosaic.mean() + resize_maps(whole.words[0], plan.grid)) / 2
    alone = renumber(prompt, kept)
    return {
        "the whole alone": whole.scores[0],
        "tiles stretched one by one, averaged with the whole": each_tile_stretched(whole, scores, plan),
        "tiles fitted to the whole": fitted(whole, scores, plan),
        "words averaged": stretch(rescale(words, alone, method.method.rescale)),
        "words averaged, then averaged with the whole (--tiles)": join(whole, mosaic.mean(), alone, method),
    }


def compare_joins(options: argparse.Namespace) -> None:
    """Scenes of small objects, the model's own preset."""
    segmenter, table = Segmenter.from_pretrained(options.model), Table(len(CLASS_NAMES))
    method = segmenter.resolve(options.preset)
    for index in range(options.limit):
        scene = make_scene(options.series, index, options.size, options.detail)
        names = np.array([CLASS_NAMES.index(name) for name in scene.classes])
        prompt = segmenter.prompt(scene.classes)
        for row, scores in joins(segmenter, scene.image, prompt, method, options.tiles).items():
            maps = post_process(scores, scene.image, method.method.pamr)
            labels = UPSAMPLING["bilinear"](maps, scene.image, None, 0.0)
            table.add(row, names[labels.numpy()], scene.labels)
    table.print()


def compare_upsampling(options: argparse.Namespace) -> None:
    """Usual scenes: presets without and with pixel-adaptive refinement."""
    segmenter = Segmenter.from_pretrained(options.model)
    for preset in ("paper", "sharp"):
        table = Table(len(CLASS_NAMES))
        for index in range(options.limit):
            scene = make_scene(options.series, index, options.size, options.detail)
            names = np.array([CLASS_NAMES.index(name) for name in scene.classes])
            method = segmenter.resolve(preset)
            seen = look(segmenter, [scene.image], segmenter.prompt(scene.classes), method, 0, [0])
            maps = post_process(seen.scores[0], scene.image, method.method.pamr)
            for name, label in UPSAMPLING.items():
                start = time.perf_counter()
                labels = label(maps, scene.image, None, 0.0)
                table.add(f"{preset}, {name}", names[labels.numpy()], scene.labels, time.perf_counter() - start)
        table.print()


def guided_filter(scores: ScoreMaps, image: Image.Image) -> Tensor:
    """Labels by the fast guided filter as published: windows of 3 x 3 cells, both coefficients upsampled."""
    from goca.maps.upsample import _box, _colours, colour_slopes

    size, cells = (image.height, image.width), (scores.maps.shape[1], scores.maps.shape[2])
    means = _colours(image.resize(cells[::-1], Image.Resampling.BOX))
    slopes = colour_slopes(scores.maps, means)
    rest = _box(_box(scores.maps)) - (slopes * _box(means)).sum(1)
    found = resize_maps(rest, size)
    for channel, colours in enumerate(_colours(image)):
        found += resize_maps(slopes[:, channel], size) * colours
    return found.argmax(0)


def refined(rounds: int) -> Callable[[ScoreMaps, Image.Image], Tensor]:
    """Labels by pixel-adaptive refinement, which works on up to 512 pixels."""
    return lambda scores, image: UPSAMPLING["bilinear"](pamr(scores, image, rounds), image, None, 0.0)


def compare_on_photographs(options: argparse.Namespace) -> None:
    """CamVid's masks on a coarse grid, back at the image's size."""
    dataset = open_dataset("camvid", root=options.root, split=options.split)
    count, table = len(dataset.classes), Table(len(dataset.classes))
    ways: dict[str, Callable[[ScoreMaps, Image.Image], Tensor]] = {
        name: lambda scores, image, label=label: label(scores, image, None, 0.0) for name, label in UPSAMPLING.items()
    }
    ways |= {"fast guided filter": guided_filter, "pixel-adaptive, 1 round": refined(1)}
    ways |= {"pixel-adaptive, 10 rounds": refined(10)}
    for index in np.linspace(0, len(dataset) - 1, min(options.limit, len(dataset))).round().astype(int):
        sample = dataset[int(index)]
        masks = torch.from_numpy((sample.labels == np.arange(count)[:, None, None]).astype(np.float32))
        grid = [round(length / options.cell) for length in sample.labels.shape]
        shares = F.adaptive_avg_pool2d(masks, grid)
        scores = ScoreMaps(("",) * count, shares, torch.zeros_like(shares[0]))
        for row, way in ways.items():
            start = time.perf_counter()
            labels = way(scores, sample.image.convert("RGB"))
            table.add(row, labels.numpy(), sample.labels, time.perf_counter() - start)
    table.print()


def measure_cost(options: argparse.Namespace) -> None:
    """Seconds and peak memory of one large image over those of a small one."""
    segmenter = Segmenter.from_pretrained(options.model)
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((options.width, options.height), Image.Resampling.BICUBIC)
    classes = ["sky", "grass", "cat", "dog", "tree"]
    segmenter(image.resize((256, 192)), classes)
    before, start = peak_mib(), time.perf_counter()
    tiles = None if options.tiles == "off" else options.tiles if options.tiles == "auto" else int(options.tiles)
    segmenter(image, classes, tiles=tiles, upsample=options.upsample)
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s; peak {peak_mib():.0f} MiB, {peak_mib() - before:.0f} MiB over a small image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run, limit in (("joins", compare_joins, 16), ("upsampling", compare_upsampling, 24)):
        command = commands.add_parser(name)
        command.add_argument("model")
        command.add_argument("series", type=int)
        command.add_argument("--size", type=int, default=512)
        command.add_argument("--detail", type=int, default=4 if name == "joins" else 1)
        command.add_argument("--tiles", type=int, default=5)
        command.add_argument("--preset")
        command.add_argument("--limit", type=int, default=limit)
        command.set_defaults(run=run)
    command = commands.add_parser("photographs")
    command.add_argument("root")
    command.add_argument("--split", default="test")
    command.add_argument("--cell", type=int, default=8)
    command.add_argument("--limit", type=int, default=60)
    command.set_defaults(run=compare_on_photographs)
    command = commands.add_parser("cost")
    command.add_argument("model")
    command.add_argument("--width", type=int, default=4000)
    command.add_argument("--height", type=int, default=3000)
    command.add_argument("--tiles", default="auto")
    command.add_argument("--upsample", default="edges")
    command.set_defaults(run=measure_cost)
    options = parser.parse_args()
    with torch.no_grad():
        options.run(options)


if __name__ == "__main__":
    main()
