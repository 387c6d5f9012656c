"""What ``goca segment`` does with a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goca.cli.common import print_json, print_settings, progress, say
from goca.cli.options import ModelOptions, count_option

if TYPE_CHECKING:
    from goca.video.segmenting import SavedVideo


@dataclass(frozen=True)
class VideoOptions:
    """How the frames of a video are taken."""

    every: Annotated[int, count_option("Video: take the first frame and every so-many-th after it.")] = 1
    temporal: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Video: weight of the frames before in a moving average of the maps, against flicker."
        ),
    ] = 0.0

    def find(self, sources: Sequence[str]) -> str | None:
        """The video among the sources; ``None`` where they are images.

        Raises:
            ValueError: several videos, a video beside images, or options of videos without one.
        """
        from goca.video.reading import is_video

        videos = [source for source in sources if is_video(source)]
        if videos and len(sources) > 1:
            raise ValueError(f"{videos[0]} is a video; segment one video at a time, without images beside it")
        if not videos and self != VideoOptions():
            raise ValueError("--every and --temporal belong to videos; name one, or leave them out")
        return videos[0] if videos else None

    def segment(
        self,
        path: str,
        classes: Sequence[str],
        out: Path,
        model: ModelOptions,
        preset: str | None,
        settings: dict[str, Any],
        **options: Any,
    ) -> tuple[SavedVideo, dict[str, Any]]:
        """Segment a video: what was written, and all settings of the method.

        Raises:
            ValueError, OSError: see :func:`goca.video.segmenting.segment_video`.
        """
        from goca.video.reading import read_frames
        from goca.video.segmenting import segment_video

        read_frames(path)  # before the model is loaded
        segmenter = model.load(preset, settings)
        with progress("segmenting") as report:
            options |= {"every": self.every, "temporal": self.temporal}
            saved = segment_video(segmenter, path, classes, out, progress=report, **options)
        return saved, segmenter.resolve().settings


def print_video(
    saved: SavedVideo, path: str, out: Path, as_json: bool, settings: dict[str, Any], complete: dict[str, Any]
) -> None:
    """Say where the masks of a video are; the settings as of :func:`goca.cli.segment.print_files`."""
    for note in saved.notes:
        say(f"note: {note}", error=True)
    if as_json:
        classes = [{"name": name, "area": share} for name, share in saved.areas.items()]
        files = {key: str(file) for key, file in saved.files.items()}
        print_json({"method": complete, "video": path, "frames": saved.frames, "classes": classes, "files": files})
        return
    print_settings(settings)
    areas = ", ".join(f"{name} {share:.0%}" for name, share in saved.areas.items())
    say(f"{path}, {saved.frames} frames: {areas}")
    for file in saved.files.values() or (out,):
        say(f"  {file}")
