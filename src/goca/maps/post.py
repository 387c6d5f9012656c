"""What is done to the maps with the image at hand: pixel-adaptive refinement, then any further post-processing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from goca.ambient import neutral
from goca.lookup import look_up
from goca.maps.crf import FTTM, crf
from goca.maps.pamr import pamr
from goca.types import ScoreMaps

POST_PROCESSING: dict[str, Callable[[ScoreMaps, Image.Image], ScoreMaps]] = {
    "crf": crf,
    "fttm-crf": partial(crf, parameters=FTTM),
}


@neutral()
def post_process(scores: ScoreMaps, image: Image.Image, iterations: int = 0, post: str | None = None) -> ScoreMaps:
    """The maps drawn to the image's edges; unchanged by default.

    Args:
        image: the RGB picture that was segmented.
        iterations: of :func:`goca.maps.pamr.pamr`.
        post: key of :data:`POST_PROCESSING`.

    Raises:
        ValueError: unknown post-processing.
    """
    refined = pamr(scores, image, iterations)
    return refined if post is None else look_up(POST_PROCESSING, post, "post-processing")(refined, image)
