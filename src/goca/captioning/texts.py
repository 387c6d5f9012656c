"""What to look for in images that nobody has described: their captions, kept beside the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from goca.captioning.job import caption_all
from goca.captioning.sources import Source
from goca.image_texts import ImageText, read_text
from goca.images import read_image
from goca.lookup import Names, read_names
from goca.storage.captions import CAPTIONS
from goca.storage.digest import file_digest


def caption_images(
    images: Sequence[str],
    source: Source,
    out: Path,
    *,
    classes: Names | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ImageText]:
    """Caption images and say what to look for in each, by its path as given.

    The captions lie in ``captions.json`` in the folder, under the names of the images (where two have one name, under
    their paths), and the answers in ``captions.json.partial.jsonl``, which stays there: a later call asks only about
    images that have no caption yet. An image without a caption has the reason instead.

    Args:
        images: paths.
        source: who is asked, see :func:`goca.captioning.sources.server_source` and
            :func:`goca.captioning.sources.local_source`.
        out: folder for the captions.
        classes: look for those of them that an image's caption mentions, instead of all things in it.
        overwrite: replace the captions that are there.
        progress: gets (images done, images in all).

    Raises:
        FileExistsError: a ``captions.json`` of other origin is there, and ``overwrite`` is not set.
        ValueError: captions with other settings are there, or images changed since.
        OSError: the source cannot answer at all, see :class:`goca.captioning.request.SourceError`; the answers so far
            are kept.
    """
    keys = image_keys(images)
    paths = dict(zip(keys, images, strict=True))
    summary = caption_all(
        {key: partial(read_image, image) for key, image in paths.items()},
        source.ask,
        out / CAPTIONS,
        source.settings,
        digest=lambda key: file_digest(Path(paths[key])),
        concurrency=source.concurrency,
        overwrite=overwrite,
        keep=True,
        progress=progress,
    )
    wanted = None if classes is None else read_names(classes, "class")
    texts = {}
    for key, image in paths.items():
        caption = summary.captions.get(key)
        failed = ImageText((), None, f"no caption: {summary.failures.get(key)}")
        texts[image] = failed if caption is None else read_text(caption, wanted)
    return texts


def image_keys(images: Sequence[str]) -> list[str]:
    """Under which names captions of images are kept: those of the files, or their paths where two have one name."""
    names = [Path(image).name for image in images]
    return names if len(set(names)) == len(names) else list(images)
