"""Small videos, made with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 32, 24
QUARTER_TURN = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # clockwise, as a display matrix of MP4


def write_clip(path: Path, times: Sequence[float], codec: str = "libx264", width: int = WIDTH) -> Path:
    """A video whose left half grows redder from frame to frame; with silence beside it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec)
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        add_silence(container)
        for index, time in enumerate(times):
            pixels = np.full((HEIGHT, width, 3), 90, np.uint8)
            pixels[:, : width // 2, 0] = min(100 + 15 * index, 255)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_silence(container: Any) -> None:
    """A track of sound, a few hundredths of a second long."""
    stream = container.add_stream("aac", rate=44100)
    frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate, frame.pts = 44100, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def turn(path: Path) -> None:
    """Let an MP4 ask for a quarter turn clockwise when it is shown."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", *QUARTER_TURN)
    path.write_bytes(content)
