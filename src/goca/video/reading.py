"""Frames of a video file, decoded one after the other with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from goca.images import max_pixels
from goca.ranges import check_whole

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
INSTALL = "videos need PyAV; pip install 'goca[video]'"


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: its number in the video, from 0.
        time: when it is shown, in seconds from the first frame; frames need not be evenly spaced.
        image: RGB, upright.
    """

    index: int
    time: float
    image: Image.Image


def is_video(path: str) -> bool:
    """Whether a name is that of a video."""
    return path.lower().endswith(VIDEO_SUFFIXES)


def require_av() -> Any:
    """The module ``av``.

    Raises:
        ValueError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise ValueError(INSTALL) from None
    return av


def read_frames(path: str | Path, every: int = 1) -> Iterator[Frame]:
    """The frames of a video's first picture track, one at a time: the next is decoded when the last has been taken.

    Frames keep their times, whatever the frame rate. A turn that the file asks for is applied. Sound is left alone.

    Args:
        path: of the file, in any format that FFmpeg decodes.
        every: take the first frame and every so-many-th after it.

    Raises:
        ValueError: PyAV is missing; the file is missing, no video, empty, damaged, or its frames are too large for the
            memory. What concerns single frames is raised when their turn comes.
    """
    check_whole("every", every, 1)
    av, name = require_av(), str(path)
    if not os.path.isfile(name):
        raise ValueError(f"no such video file: {name}; check the path")
    try:
        container = av.open(name)
    except (av.FFmpegError, OSError, ValueError):
        raise ValueError(f"{name} cannot be decoded as a video; convert it, for example to MP4 with H.264") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"{name} holds no pictures, only sound or text; name a video")
    return _decode(av, container, name, every)


def _decode(av: Any, container: Any, name: str, every: int) -> Iterator[Frame]:
    stream, index, start = container.streams.video[0], 0, None
    stream.thread_type = "AUTO"
    if stream.width * stream.height > max_pixels():
        container.close()
        raise ValueError(f"the frames of {name} have too many pixels to be read safely; make them smaller first")
    with container:
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames, None)
            except (av.FFmpegError, OSError, ValueError):
                raise ValueError(f"{name} is damaged after {index} frames; copy or convert it again") from None
            if frame is None:
                break
            time = _time(frame, stream, index)
            start = time if start is None else start
            if index % every == 0:
                yield Frame(index, time - start, _upright(frame))
            index += 1
    if index == 0:
        raise ValueError(f"{name} has no frames; check the video")


def _time(frame: Any, stream: Any, index: int) -> float:
    """Of the frame, in seconds; by the frame rate where the file does not tell."""
    if frame.time is not None:
        return float(frame.time)
    return index / float(stream.average_rate or stream.guessed_rate or 25)


def _upright(frame: Any) -> Image.Image:
    """RGB of a frame, turned as its display matrix says (degrees against the clock)."""
    image = frame.to_image()
    turns = {
        90: Image.Transpose.ROTATE_90,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)
