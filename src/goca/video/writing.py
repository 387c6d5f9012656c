"""Videos of masks: labels without loss, and the frames under their classes' colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from goca.render.colours import check_count
from goca.render.overlay import default_opacity, paint
from goca.result import Segmentation
from goca.video.reading import Frame, require_av

CLOCK = Fraction(1, 90_000)  # of a second: fine enough for any frame rate


class VideoWriter:
    """Encodes pictures at their own times; a context manager.

    Args:
        path: of the file; its ending names the container.
        codec: FFmpeg's name of the encoder.
        pixels: FFmpeg's name of how the video stores pixels.
    """

    def __init__(self, path: Path, codec: str, pixels: str) -> None:
        self._container = require_av().open(str(path), "w")
        self._stream = self._container.add_stream(codec)
        self._stream.pix_fmt = pixels
        self._stream.codec_context.time_base = CLOCK
        self._size: tuple[int, int] | None = None
        self._last = -1

    def add(self, picture: Image.Image, time: float) -> None:
        """Encode a picture that is shown from ``time`` on, in seconds.

        Raises:
            ValueError: its size is not that of the first.
        """
        av = require_av()
        if self._size is None:
            self._size = picture.size
            self._stream.width, self._stream.height = picture.size
        if picture.size != self._size:
            raise ValueError("the frames of the video change their size; name a format of single images with --format")
        frame = av.VideoFrame.from_image(picture) if picture.mode == "RGB" else _grey_frame(picture)
        self._last = max(self._last + 1, round(time / CLOCK))  # times of damaged files may stand still
        frame.pts, frame.time_base = self._last, CLOCK
        self._container.mux(self._stream.encode(frame.reformat(format=self._stream.pix_fmt)))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and self._size is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _grey_frame(picture: Image.Image) -> Any:
    return require_av().VideoFrame.from_ndarray(np.asarray(picture), format="gray")


class MaskVideos:
    """``STEM_labels.mkv``, whose grey values are the labels (FFV1, without loss), 255 where a pixel is ignored, and
    ``STEM_overlay.mp4`` (H.264), the frames under their classes' colours with names, all at one opacity."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.files = mask_files(folder, stem)
        self._labels = VideoWriter(self.files["labels"], "ffv1", "gray")
        self._overlay = VideoWriter(self.files["overlay"], "libx264", "yuv420p")
        self._opacity: float | None = None

    def add(self, frame: Frame, result: Segmentation) -> None:
        """Encode one frame and its labels.

        Raises:
            ValueError: more classes than 8 bits hold, or frames of different sizes.
        """
        check_count(len(result.classes))
        self._opacity = default_opacity(frame.image) if self._opacity is None else self._opacity
        picture = paint(frame.image, result.labels, result.colours, self._opacity, result.classes)
        even = picture.crop((0, 0, picture.width + picture.width % 2, picture.height + picture.height % 2))
        self._labels.add(Image.fromarray(result.labels.astype(np.uint8)), frame.time)
        self._overlay.add(even, frame.time)

    def __enter__(self) -> MaskVideos:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._labels.__exit__(kind, error, traceback)
        finally:
            self._overlay.__exit__(kind, error, traceback)


def mask_files(folder: Path, stem: str) -> dict[str, Path]:
    """Where the videos of masks are written."""
    return {"labels": folder / f"{stem}_labels.mkv", "overlay": folder / f"{stem}_overlay.mp4"}
