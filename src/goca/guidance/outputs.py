"""What a pipeline gives, by its ``output_type``, as a picture."""

from __future__ import annotations

import numpy as np
from PIL.Image import Image
from torch import Tensor

from goca.images import ImageError, read_image

WANTED = (
    "pass one image as the pipeline gives it with output_type 'pil', 'np' or 'pt' (latents are no image): a PIL image, "
    "an array (height, width, 3) or a tensor (3, height, width), with values from 0 to 1"
)


def picture(output: Image | np.ndarray | Tensor) -> Image:
    """RGB picture of one image: of output type ``"pil"``, ``"np"`` or ``"pt"``; or anything that
    :func:`goca.images.read_image` reads.

    Raises:
        ImageError: another shape, values outside 0 to 1, or latents.
    """
    if isinstance(output, Tensor):
        if output.ndim != 3 or output.shape[0] != 3:
            raise ImageError(f"the tensor has shape {tuple(output.shape)}; {WANTED}")
        output = output.detach().permute(1, 2, 0).cpu()
        output = (output.float() if output.is_floating_point() else output).numpy()
    if not isinstance(output, np.ndarray) or not np.issubdtype(output.dtype, np.floating):
        return read_image(output)
    if output.ndim != 3 or output.shape[2] != 3:
        raise ImageError(f"the array has shape {output.shape}; {WANTED}")
    if not (output.min() >= 0 and output.max() <= 1):  # false for nan
        raise ImageError(f"the image has values outside 0 to 1; {WANTED}")
    return read_image((output * 255).round().astype(np.uint8))
