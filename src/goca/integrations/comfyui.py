"""ComfyUI nodes: masks of the things you name, and images drawn by goca's own pipelines with guidance by regions.

The repository's folder ``integrations/comfyui`` goes into ComfyUI's ``custom_nodes`` and takes the nodes from here.
Images are float tensors [batch, height, width, channels] in [0, 1], masks [masks, height, width].

Guidance is no patch of ComfyUI's MODEL, which is no diffusers pipeline: goca records and guides those alone.
``GoCAGenerate`` draws with one instead.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goca.ambient import neutral
from goca.guidance.generate import DEFAULT_SCALE, GUIDANCE, Generator, name_things
from goca.lookup import read_names
from goca.memory import return_free_memory
from goca.method import BASELINES, PRESETS
from goca.models import list_models
from goca.models.specs import DEFAULT_MODEL
from goca.ranges import LARGEST_SCALE, LARGEST_SEED, MOST_STEPS
from goca.result import Segmentation
from goca.segmenter import Segmenter

Images = Float[Tensor, "batch height width channels"]
Masks = Float[Tensor, "masks height width"]

OWN = "the model's own"
_loaded: dict[str, Segmenter] = {}  # at most one, by the model's name


class GoCASegment:
    """Node: an image and names to one mask for each name."""

    CATEGORY = "goca"
    DESCRIPTION = "One mask for each thing you name, by a diffusion model's attention; nothing is trained."
    FUNCTION = "segment"
    RETURN_TYPES = ("MASK", "MASK", "STRING")
    RETURN_NAMES = ("masks", "scores", "names")
    OUTPUT_TOOLTIPS = (
        "0 or 1; all names of the first image, then of the second",
        "0 to 1, in the same order",
        "the name of each mask, one a line",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "image": ("IMAGE",),
                "classes": ("STRING", {"default": "", "multiline": True, "placeholder": "cat, grass, person|man"}),
                **_model_inputs(),
                "preset": ([OWN, *PRESETS, *BASELINES], {"default": OWN}),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED}),
                "keep_model_loaded": ("BOOLEAN", {"default": True}),
            },
            "optional": {
                "background": ("STRING", {"default": "", "tooltip": "phrases for everything else"}),
                **_path_input(),
            },
        }

    def segment(
        self,
        image: Images,
        classes: str,
        model: str,
        preset: str,
        seed: int,
        keep_model_loaded: bool,
        background: str = "",
        model_path: str = "",
    ) -> tuple[Masks, Masks, str]:
        """Masks and scores of every class and the background, if there is one, for every image, and their names.

        Raises:
            ValueError: as of :class:`goca.Segmenter`.
        """
        method = None if preset == OWN else preset
        names = read_names(classes.replace("\n", ","), "class")
        with _segmenter(model_path.strip() or model, keep_model_loaded) as segmenter:
            results = segmenter(to_pictures(image), names, background=background, seed=seed, method=method)
        return _answer(results)


class GoCAGenerate:
    """Node: a prompt to images and their masks, without a further forward."""

    CATEGORY = "goca"
    DESCRIPTION = "Draws with one of goca's pipelines, each region with its own guidance, and segments on the way."
    FUNCTION = "generate"
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("image", "masks", "names")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "prompt": ("STRING", {"default": "", "multiline": True}),
                **_model_inputs(),
                "guidance": (list(GUIDANCE), {"default": "goca"}),
                "scale": ("FLOAT", {"default": DEFAULT_SCALE, "min": 1.01, "max": LARGEST_SCALE, "step": 0.1}),
                "steps": ("INT", {"default": 0, "min": 0, "max": MOST_STEPS, "tooltip": "0: the pipeline's own"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED}),
                "keep_model_loaded": ("BOOLEAN", {"default": True}),
            },
            "optional": {
                "classes": ("STRING", {"default": "", "tooltip": "words of the prompt; empty: what its commas name"}),
                **_path_input(),
            },
        }

    def generate(
        self,
        prompt: str,
        model: str,
        guidance: str,
        scale: float,
        steps: int,
        seed: int,
        keep_model_loaded: bool,
        classes: str = "",
        model_path: str = "",
    ) -> tuple[Images, Masks, str]:
        """The image, a mask for each class, and their names.

        Raises:
            ValueError: as of :class:`goca.guidance.generate.Generator`.
        """
        with _segmenter(model_path.strip() or model, keep_model_loaded) as segmenter:
            names = read_names(classes, "class") or name_things(prompt, segmenter.model.spec.vocabulary)
            make = Generator(segmenter, guidance, scale=scale, steps=steps or None)
            drawn = make(prompt, seed, classes=names)
        assert drawn.segmentation is not None
        masks, _, lines = _answer([drawn.segmentation])
        return torch.from_numpy(np.asarray(drawn.image, dtype=np.float32) / 255)[None], masks, lines


def to_pictures(images: Images) -> list[Image.Image]:
    """ComfyUI's images, whose numbers may lie a little outside [0, 1], as pictures."""
    values = (images[..., :3].float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(value) for value in values]


@contextmanager
def _segmenter(name: str, keep: bool) -> Iterator[Segmenter]:
    """The segmenter of a model, kept for the next time or not; one model is held at a time."""
    with neutral():
        if name not in _loaded:
            _let_go()
            _loaded[name] = Segmenter.from_pretrained(name)
        try:
            yield _loaded[name]
        finally:
            if not keep:
                _let_go()


def _let_go() -> None:
    _loaded.clear()
    gc.collect()
    return_free_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _model_inputs() -> dict[str, Any]:
    return {"model": ([spec.name for spec in list_models()], {"default": DEFAULT_MODEL})}


def _path_input() -> dict[str, Any]:
    return {"model_path": ("STRING", {"default": "", "tooltip": "hub id, folder or checkpoint, instead of model"})}


def _answer(results: list[Segmentation]) -> tuple[Masks, Masks, str]:
    """Masks and scores of all classes of all images, and the classes' names, one a line."""
    masks = torch.from_numpy(np.concatenate([result.masks for result in results]).astype(np.float32))
    scores = torch.from_numpy(np.concatenate([result.scores for result in results]))
    return masks, scores, "\n".join(results[0].classes)


NODE_CLASS_MAPPINGS: dict[str, type] = {"GoCASegment": GoCASegment, "GoCAGenerate": GoCAGenerate}
NODE_DISPLAY_NAME_MAPPINGS = {"GoCASegment": "GoCA: segment by names", "GoCAGenerate": "GoCA: draw and segment"}
