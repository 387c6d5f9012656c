"""Tiles of a large image, joined with the whole."""

import numpy as np
import pytest
import torch
from PIL import Image

from goca import Segmenter
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.segment_many import segment_many
from goca.tiles import Mosaic, Window, check_resolution, kept_tokens, plan_tiles, renumber
from goca.types import Concept, Prompt


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained("scenes-dit", method="paper")


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (300, 900), (1000, 90), (129, 128)])
@pytest.mark.parametrize("tiles", [2, 3, 7])
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], tiles: int) -> None:
    plan = plan_tiles(size, tiles, 128, 16)
    assert plan is not None
    covered = np.zeros(plan.grid, int)
    for window in plan.windows:
        covered[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert covered.min() > 0
    along = {window.left if size[0] >= size[1] else window.top for window in plan.windows}
    assert len(along) == tiles
    starts = sorted(along)
    assert max(np.diff(starts)) <= 12.5  # three quarters of 16 cells, rounded
    cell = max(size) / max(plan.grid)
    assert [cells * cell for cells in plan.grid] == pytest.approx([size[1], size[0]], abs=cell / 2)


def test_auto_takes_tiles_of_the_models_own_size_up_to_eight() -> None:
    assert plan_tiles((128, 100), "auto", 128, 16) is None
    for longest in (129, 224, 225, 400, 512):
        plan = plan_tiles((longest, longest), "auto", 128, 16)
        assert plan is not None
        count = len({window.left for window in plan.windows})
        assert longest / (1 + 0.75 * (count - 1)) <= 128 < longest / (1 + 0.75 * (count - 2))
    plan = plan_tiles((4000, 3000), "auto", 128, 16)
    assert plan is not None and len({window.left for window in plan.windows}) == 8


def test_a_strip_has_maps_that_can_be_blurred(segmenter: Segmenter) -> None:
    result = segmenter(Image.new("RGB", (300, 6), "blue"), ["sky", "grass"], tiles=2)
    assert result.maps.shape == (2, 3, 28)


def test_a_window_crops_its_share_of_the_image() -> None:
    image = Image.new("RGB", (400, 200))
    assert Window(2, 4, 4, 8).crop(image, (10, 20)).size == (160, 80)


@pytest.mark.parametrize("tiles", [0, 1, 33, "many", "3", True])
def test_other_numbers_of_tiles_are_refused(segmenter: Segmenter, tiles: object) -> None:
    with pytest.raises(ValueError, match=r"^tiles is "):
        segmenter(np.zeros((8, 8, 3), np.uint8), ["cat"], tiles=tiles)  # type: ignore[arg-type]


def test_an_unknown_upsampling_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"edge.*bilinear"):
        check_resolution(None, "edge")


def test_tiles_of_too_few_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 tiles along 40 pixels are smaller than 16 pixels; take fewer"):
        plan_tiles((40, 40), 4, 128, 16)


def test_a_mosaic_of_one_map_is_that_map() -> None:
    maps = torch.rand(2, 20, 28, generator=torch.Generator().manual_seed(0))
    mosaic = Mosaic((20, 28), 2, maps.device)
    for top in (0, 4):
        for left in (0, 6, 12):
            mosaic.add(Window(top, left, 16, 16), maps[:, top : top + 16, left : left + 16])
    torch.testing.assert_close(mosaic.mean(), maps)


def test_the_kept_tokens_are_numbered_anew() -> None:
    prompt = Prompt("", (Concept("a", ("a",), (3, 5)),), (Concept("b", ("b",), (9,)),), (3, 5, 7))
    kept = kept_tokens(prompt)
    moved = renumber(prompt, kept)
    assert kept == [3, 5, 7, 9]
    assert (moved.classes[0].tokens, moved.background[0].tokens, moved.content_tokens) == ((0, 1), (3,), (0, 1, 2))


def accuracy(segmenter: Segmenter, **options: object) -> float:
    """Share of right pixels in three scenes of small objects, each class counting the same."""
    shares = []
    for index in (1, 3, 5):
        scene = make_scene(4, index, 256, 2)
        result = segmenter(scene.image, list(scene.classes), **options)  # type: ignore[call-overload]
        names = np.array([CLASS_NAMES.index(name) for name in scene.classes])
        right = names[result.labels] == scene.labels
        shares += [right[scene.labels == name].mean() for name in names]
    return float(np.mean(shares))


@pytest.mark.slow
def test_small_things_gain(segmenter: Segmenter) -> None:
    assert accuracy(segmenter, tiles="auto") > accuracy(segmenter) + 0.02


def test_without_tiles_nothing_changes_and_with_them_the_grid_is_finer(segmenter: Segmenter) -> None:
    scene = make_scene(4, 1, 200)
    plain, classes = segmenter(scene.image, list(scene.classes)), list(scene.classes)
    off = segmenter(scene.image, classes, tiles=None, upsample="bilinear")
    np.testing.assert_array_equal(off.maps, plain.maps)
    small = make_scene(4, 1)
    auto = segmenter(small.image, list(small.classes), tiles="auto")
    np.testing.assert_array_equal(auto.maps, segmenter(small.image, list(small.classes)).maps)
    tiled = segmenter(scene.image, classes, tiles=2)
    assert tiled.maps.shape == (len(classes), 28, 28)
    assert tiled.maps.min() >= 0 and tiled.maps.max() <= 1


@pytest.mark.parametrize("preset", ["plus", "sharp", "vanilla+crf"])
def test_presets_views_and_backgrounds(segmenter: Segmenter, preset: str) -> None:
    scene = make_scene(4, 2, 200)
    options = {"method": preset, "background": ["wood"], "threshold": 0.2, "tiles": 2, "upsample": "edges"}
    result = segmenter(scene.image, list(scene.classes), **options)  # type: ignore[call-overload]
    assert result.classes == (*scene.classes, "background")
    assert np.isfinite(result.maps).all()


def test_fast_and_shapes_and_inference_mode() -> None:
    segmenter = Segmenter.from_pretrained("scenes-unet", method="paper", fast=True, keep_aspect=True)
    scene = make_scene(4, 2, 300)
    wide = scene.image.crop((0, 60, 300, 240))
    result = segmenter(wide, list(scene.classes), tiles=2)
    with torch.inference_mode():
        np.testing.assert_array_equal(segmenter(wide, list(scene.classes), tiles=2).maps, result.maps)
    assert result.labels.shape == (180, 300)


def test_an_image_that_is_too_small_for_its_tiles_is_listed(segmenter: Segmenter, tmp_path) -> None:
    make_scene(4, 1, 200).image.save(tmp_path / "large.png")
    make_scene(4, 1, 20).image.save(tmp_path / "small.png")
    paths = [str(tmp_path / name) for name in ("large.png", "small.png")]
    saved = segment_many(segmenter, paths, ["sky", "grass"], tmp_path / "out", tiles=2, formats=["labels"])
    assert [each.image for each in saved.images] == paths[:1]
    assert "2 tiles along 20 pixels" in saved.failures[0][1]
    with pytest.raises(ValueError, match="tiles"):
        segment_many(segmenter, paths, ["sky", "grass"], tmp_path / "out", tiles=3, formats=["labels"], resume=True)
