"""Every kind of image that is handled, and the sentence for every kind that is not."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from goca import images
from goca.images import ImageError, fit_as_published, fit_to_model, fitted_size, read_image

RED = (200, 30, 10)


def pixels(source: Any) -> np.ndarray:
    image = read_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_path_text_and_array_give_the_same_pixels(png: Path) -> None:
    array = np.asarray(Image.open(png))
    for source in (png, str(png), Image.open(png), array):
        np.testing.assert_array_equal(pixels(source), array)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "CMYK", "RGBX"])
def test_modes_keep_the_colour(mode: str) -> None:
    white = Image.new("RGB", (4, 3), "white").convert(mode)
    np.testing.assert_array_equal(pixels(white), np.full((3, 4, 3), 255))


@pytest.mark.parametrize("mode", ["P", "CMYK"])
def test_colours_survive_files_of_other_modes(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (8, 8), RED).convert(mode, palette=Image.Palette.ADAPTIVE).save(file)
    assert Image.open(file).mode == mode
    np.testing.assert_allclose(pixels(file)[0, 0], RED, atol=2)


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    array = np.array([[0, 257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / "deep.png")
    for source in (tmp_path / "deep.png", array, array[..., None], Image.fromarray(array.astype(np.int32))):
        np.testing.assert_array_equal(pixels(source)[0, :, 0], [0, 128, 255])


def test_more_than_sixteen_bits_and_floats_are_refused() -> None:
    with pytest.raises(ImageError, match="the image holds values beyond 16 bits; convert it to 8 bits"):
        read_image(Image.fromarray(np.array([[70000]], dtype=np.int32)))
    with pytest.raises(ImageError, match="the image holds floating-point values; convert it to 8 bits"):
        read_image(Image.new("F", (2, 2)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
def test_transparency_becomes_white(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "clear.png"
    if mode in ("P", "L", "RGB"):
        black = (0, 0, 0) if mode == "RGB" else 0
        Image.new(mode, (5, 4), black).save(file, transparency=black)
        source: Any = file
    else:
        source = Image.new("RGBA", (5, 4), (0, 0, 0, 0)).convert(mode)
    np.testing.assert_array_equal(pixels(source), np.full((4, 5, 3), 255))


def test_half_transparency_mixes_with_white() -> None:
    assert pixels(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))[0, 0, 0] == pytest.approx(127, abs=1)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 2), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the file turned clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    array = pixels(tmp_path / "turned.png")
    assert array.shape == (6, 2, 3)
    assert array[0, 1].tolist() == [255, 255, 255] and array.sum() == 3 * 255


def test_one_pixel_is_fine() -> None:
    assert pixels(np.full((1, 1, 3), 7, np.uint8)).tolist() == [[[7, 7, 7]]]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "moving.gif").min() == 255


def test_missing_folder_address_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no such image file: .*cat\.png; check the path"):
        read_image(tmp_path / "cat.png")
    with pytest.raises(ImageError, match="is a folder; name the image files in it"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"https://example\.org/cat\.png is a web address; download the image first"):
        read_image("https://example.org/cat.png")
    with pytest.raises(ImageError, match="path is empty"):
        read_image("")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.png")


def test_text_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("these are words")
    with pytest.raises(ImageError, match=r"notes\.png is not an image that can be read; convert it to PNG or JPEG"):
        read_image(tmp_path / "notes.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp"])
def test_truncated_files_are_named(png: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"cut.{ending}"
    Image.open(png).save(file)
    whole = file.read_bytes()
    for share in (0.5, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match=rf"cut\.{ending} is (damaged or cut short|not an image that can be read)"):
            read_image(file)


def test_too_many_pixels(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goca.images.max_pixels", lambda: 100)
    with pytest.raises(ImageError, match=r"noise\.png has too many pixels"):
        read_image(png)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), r"the array has no pixels \(shape \(0, 4, 3\)\)"),
        (np.zeros((4, 4, 3), np.float32), "the array holds float32, but an image holds uint8 values"),
        (np.zeros((4, 4, 3), np.uint16), "the array holds uint16"),
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\).*use array.transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"shape \(2, 8, 9, 3\), but an image is \(height, width\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
    ],
)
def test_arrays_of_other_kinds_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_picture_without_pixels() -> None:
    with pytest.raises(ImageError, match=r"the image has no pixels \(0 x 5\)"):
        read_image(Image.new("RGB", (0, 5)))


def test_fit_scales_to_minus_one_and_one() -> None:
    array = np.zeros((16, 16, 3), np.uint8)
    array[:8, :, 0] = 255
    tensor = fit_to_model(Image.fromarray(array), 16, 8)
    assert tensor.shape == (3, 16, 16) and tensor.dtype == torch.float32
    assert tensor[0, 0, 0] == 1 and tensor[0, 15, 0] == -1 and tensor[1].max() == -1


@pytest.mark.parametrize("size", [(1, 1), (100, 30), (3000, 10)])
def test_fit_makes_a_square_of_any_image(size: tuple[int, int]) -> None:
    tensor = fit_to_model(Image.new("RGB", size, RED), 64, 8)
    assert tensor.shape == (3, 64, 64)
    torch.testing.assert_close(tensor[:, 10, 10], torch.tensor(RED) / 127.5 - 1)


def test_fit_keeps_the_aspect_on_request() -> None:
    assert fit_to_model(Image.new("RGB", (100, 50)), 64, 8, keep_aspect=True).shape == (3, 48, 88)
    assert fitted_size((4000, 1), 64, 8) == (128, 32)
    assert fitted_size((1, 4000), 64, 8) == (32, 128)


def test_fit_refuses_a_side_off_the_grid() -> None:
    with pytest.raises(ValueError, match="multiples of 8, not 60"):
        fit_to_model(Image.new("RGB", (9, 9)), 60, 8)


def test_published_images_are_resized_in_their_own_mode_and_then_converted() -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    found = fit_as_published(picture, 16)
    expected = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)
    assert (found - fit_to_model(picture, 16, 8)).abs().max() > 0.02  # Lanczos
    grey = picture.convert("L")
    assert torch.equal(fit_as_published(grey, 16), fit_as_published(grey.convert("RGB"), 16))
    palette = picture.quantize(5)
    colours = {tuple(colour) for colour in np.asarray(palette.convert("RGB")).reshape(-1, 3).tolist()}
    pixels = ((fit_as_published(palette, 16) + 1) * 127.5).round().permute(1, 2, 0).reshape(-1, 3).tolist()
    assert {tuple(map(int, pixel)) for pixel in pixels} <= colours  # a palette is not blended


def test_warnings_of_other_threads_are_not_lost_while_an_image_is_decoded(
    png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: Image.Image, _name: str) -> None:
        image.load()
        thread = threading.Thread(target=lambda: warnings.warn("of another thread", stacklevel=1))
        thread.start()
        thread.join()

    monkeypatch.setattr(images, "_load", load)
    with pytest.warns(UserWarning, match="of another thread"):
        read_image(png)
