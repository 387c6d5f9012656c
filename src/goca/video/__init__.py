"""Videos: frames in, masks of every frame out."""

from goca.video.reading import VIDEO_SUFFIXES, Frame, is_video, read_frames

__all__ = ["VIDEO_SUFFIXES", "Frame", "is_video", "read_frames"]
