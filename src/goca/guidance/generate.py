"""From a prompt to an image, with the segmentation that falls out on the way."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from goca.ambient import neutral
from goca.guidance.pipelines import complete_steps, plain_layout, without_progress_bar
from goca.guidance.run import GuidanceStep
from goca.guidance.semantic import Progress, SemanticGuidance
from goca.lookup import COMMAS, Names, look_up
from goca.models import memory_errors
from goca.ranges import LARGEST_SIDE, MOST_STEPS, check_seed, check_whole
from goca.result import Segmentation
from goca.segmenter import Segmenter
from goca.text.prompt import check_vocabulary
from goca.text.spans import FULL_STOPS, STOP_WORDS, find_words, normalise
from goca.text.tokens import read_prompt
from goca.types import Grid

GUIDANCE = {"cfg": "cfg", "s-cfg": "s-cfg", "goca": "goca"}
DEFAULT_SCALE = 5.0  # of the paper's table
NAME_THEM = "say which things of the prompt to segment, for example --classes {example!r}"


@dataclass(frozen=True)
class Generation:
    """An image and how it came about.

    Attributes:
        guidance: key of :data:`GUIDANCE`.
        words: of the regions in ``steps``, in order; the first may be special and blank.
        steps: masks and rates, where they were asked for.
        notes: sentences that the user should read.
        segmentation: where it was asked for.
    """

    prompt: str
    seed: int
    guidance: str
    image: Image.Image
    words: tuple[str, ...] = ()
    steps: tuple[GuidanceStep, ...] = ()
    notes: tuple[str, ...] = ()
    segmentation: Segmentation | None = None


class Generator:
    """Draws images with one model and one setting.

    Args:
        segmenter: the model; its method is used for segmentations.
        guidance: ``"goca"``, ``"s-cfg"`` or ``"cfg"``.
        scale: guidance scale.
        steps: of the denoiser; the pipeline's own number by default.
        size: height and width in pixels; the model's own square by default.
        every: masks are made every so many steps.

    Raises:
        ValueError: unknown guidance, a size that the model cannot draw, or a model or scale without classifier-free
            guidance, see :class:`SemanticGuidance`.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        guidance: str = "goca",
        *,
        scale: float = DEFAULT_SCALE,
        steps: int | None = None,
        size: Grid | None = None,
        every: int = 1,
    ) -> None:
        look_up(GUIDANCE, guidance, "guidance")
        spec, backbone = segmenter.model.spec, segmenter.model.backbone
        size = size or (spec.image_size, spec.image_size)
        if steps is not None:
            check_whole("steps", steps, 1, MOST_STEPS)
        if any(check_whole("size", side, 1, LARGEST_SIDE) % backbone.size_multiple for side in size):
            raise ValueError(
                f"{spec.name} draws sizes that are multiples of {backbone.size_multiple}, not {size[1]} x {size[0]}"
            )
        self.segmenter, self.guidance, self.every = segmenter, guidance, every
        self.scale, self.steps, self.size = scale, steps, size
        self.guide().check_scale(scale)

    def like(self, guidance: str) -> Generator:
        """One with other guidance and the same settings."""
        return Generator(self.segmenter, guidance, scale=self.scale, steps=self.steps, size=self.size, every=self.every)

    def guide(self, **options: Any) -> SemanticGuidance:
        """The context manager in which the pipeline is called; options as of the class."""
        return SemanticGuidance(self.segmenter, GUIDANCE[self.guidance], every=self.every, **options)

    def options(self) -> dict[str, Any]:
        """Arguments of the pipeline beside the prompt; it gets those that it knows."""
        pipeline, backbone = self.segmenter.model.pipeline, self.segmenter.model.backbone
        layout = plain_layout(backbone)
        calls = [inspect.signature(each.__call__).parameters for each in type(pipeline).__mro__ if each is not object]
        known = {name for parameters in calls for name in parameters}  # a subclass may hand on what it does not name
        if not any(each.kind is each.VAR_KEYWORD for each in calls[0].values()):
            known = set(calls[0])
        chosen: dict[str, Any] = {
            "height": self.size[0],
            "width": self.size[1],
            "clean_caption": False,
            "use_resolution_binning": False,
        }
        if self.steps is not None:
            chosen["num_inference_steps"] = self.steps
        chosen[layout.argument] = self.scale
        if layout.negative is not None:
            chosen["negative_prompt"] = layout.negative
        if backbone.pipeline_class == "FluxPipeline":  # which pads to 512 tokens, however many the model knows
            chosen["max_sequence_length"] = backbone.max_tokens
        return {name: value for name, value in chosen.items() if name in known}

    def __call__(
        self,
        prompt: str,
        seed: int = 0,
        *,
        classes: Names | None = None,
        trace: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Generation:
        """Draw one image.

        Args:
            classes: what to segment in it, words of the prompt; ``None`` leaves the segmentation out.
            trace: keep masks and rates of every step.
            progress: see :class:`SemanticGuidance`.

        Raises:
            ValueError: see :class:`SemanticGuidance` and :meth:`check`.
        """
        text, seed = self.check(prompt, classes), check_seed(seed)
        pipeline, spec = self.segmenter.model.pipeline, self.segmenter.model.spec
        with (
            memory_errors(spec.name),
            self.guide(segment=classes is not None, trace=trace, progress=progress) as guidance,
        ):
            generator = torch.Generator().manual_seed(seed)
            with neutral(), without_progress_bar(pipeline), complete_steps(pipeline.scheduler):
                image = pipeline(prompt=text, generator=generator, **self.options()).images[0]
        segmentation = None if classes is None else guidance.segmentation(image, classes)
        words = guidance.region_words() if guidance.steps else ()
        notes = (*guidance.notes, *(segmentation.notes if segmentation else ()))
        return Generation(prompt, seed, self.guidance, image, words, tuple(guidance.steps), notes, segmentation)

    def check(self, prompt: str, classes: Names | None = None) -> str:
        """The prompt as it will be drawn, with single spaces.

        Raises:
            ValueError: it is longer than the text encoder takes, has a word that an embedded model has never seen, or
                does not mention one of the classes.
        """
        text = " ".join(prompt.split())
        vocabulary = self.segmenter.model.spec.vocabulary
        if vocabulary is not None:
            check_vocabulary(text, vocabulary)
        with self.segmenter.model.backbone.turn():
            read_prompt(self.segmenter.model.backbone, text)
        if classes is not None:
            self.segmenter.prompt(classes, caption=text)
        return text


def name_things(prompt: str, vocabulary: Sequence[str] | None) -> list[str]:
    """What a prompt names: the phrases that an embedded model knows, in their order; of other models' prompts the parts
    between commas, without their article.

    Raises:
        ValueError: a sentence, of which only the user can say what its things are.
    """
    text = normalise(prompt)
    if vocabulary is not None:
        spans = find_words(text, [phrase for phrase in vocabulary if phrase not in STOP_WORDS])
        found = sorted((places[0], phrase) for phrase, places in spans.items() if places)
        things = [phrase for _, phrase in found]
    else:
        article = re.compile(rf"^(?:(?:{'|'.join(sorted(STOP_WORDS))})\s+)+")
        parts = [article.sub("", part.strip(f" {FULL_STOPS}")) for part in re.split(f"[{COMMAS}]", text)]
        things = list(dict.fromkeys(part for part in parts if part))
    if not things or (vocabulary is None and len(things) == 1):
        raise ValueError(NAME_THEM.format(example="cat,grass"))
    return things
