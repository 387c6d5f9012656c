"""Frames of videos: their pixels, times and turn; what cannot be decoded is refused in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, add_silence, turn, write_clip

from goca.video import is_video, read_frames

TIMES = (0.0, 0.04, 0.1, 0.4, 0.41)  # not evenly spaced


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_frames_have_their_pixels_and_times(tmp_path: Path, name: str) -> None:
    frames = list(read_frames(write_clip(tmp_path / name, TIMES)))
    assert [frame.index for frame in frames] == list(range(5))
    assert [round(frame.time, 3) for frame in frames] == list(TIMES)
    for frame in frames:
        assert frame.image.size == (WIDTH, HEIGHT) and frame.image.mode == "RGB"
        pixels = np.asarray(frame.image).astype(int)
        assert abs(pixels[12, 4] - [100 + 15 * frame.index, 90, 90]).max() < 12
        assert abs(pixels[12, 28] - 90).max() < 12


def test_times_begin_at_the_first_frame(tmp_path: Path) -> None:
    frames = list(read_frames(write_clip(tmp_path / "late.mkv", [5.0, 5.5])))
    assert [round(frame.time, 3) for frame in frames] == [0, 0.5]


def test_every_third_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [index / 25 for index in range(8)])
    assert [frame.index for frame in read_frames(path, every=3)] == [0, 3, 6]
    with pytest.raises(ValueError, match="every"):
        read_frames(path, every=0)


def test_the_turn_that_the_file_asks_for_is_applied(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "phone.mp4", [0.0])
    turn(path)
    (frame,) = read_frames(path)
    assert frame.image.size == (HEIGHT, WIDTH)
    pixels = np.asarray(frame.image).astype(int)
    assert pixels[2, 12, 0] - pixels[2, 12, 1] > 3 and abs(pixels[30, 12, 0] - pixels[30, 12, 1]) < 4  # left is up now


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded as a video"),
        (b"no video at all", "cannot be decoded as a video"),
        (None, "no such video file"),
    ],
)
def test_no_videos(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_frames(path)


def test_damaged_videos(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [index / 25 for index in range(20)])
    content = path.read_bytes()
    data = content.index(b"mdat")
    path.write_bytes(content[: data + 4] + bytes(len(content) - data - 4))  # the index of an MP4 stands at its end
    with pytest.raises(ValueError, match="cannot be decoded"):
        list(read_frames(path))
    moov = content.index(b"moov")
    path.write_bytes(content[: data + 4] + bytes(moov - data - 8) + content[moov - 4 :])
    with pytest.raises(ValueError, match=r"is damaged after \d+ frames|has no frames"):
        list(read_frames(path))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        add_silence(container)
    with pytest.raises(ValueError, match="holds no pictures"):
        read_frames(tmp_path / "sound.mp4")


def test_without_pyav_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'goca\[video\]'"):
        read_frames(tmp_path / "clip.mp4")


def test_names_of_videos() -> None:
    assert is_video("a.MP4") and is_video("b/c.webm") and not is_video("a.gif") and not is_video("mp4")
