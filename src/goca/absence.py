"""Which of the named classes are in an image at all: those without whose words the model explains the image worse.

The image is noised strongly, a few times, and the model predicts the clean latent from the text with all classes, and
from the text without each. With the mean squared errors e and e_k of these predictions::

    gain(k) = e_k / e - 1

A generator that was given the words of what is in an image predicts it better (Li et al., "Your Diffusion Model is
Secretly a Zero-Shot Classifier", ICCV 2023, compare whole prompts in this way). Attention tells it less well, because
every word gets some pixels, see docs/confidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from goca.ranges import LARGEST_SEED
from goca.types import Concept, Prompt

if TYPE_CHECKING:
    from goca.result import Segmentation
    from goca.segmenter import Segmenter

SEEDS = LARGEST_SEED + 1
TIMESTEP = 800
NOISES = 4
LEAST_GAIN = 0.0
DROPPED = "{name!r} was dropped where it is not: without the word the image is explained as well"
CAPTIONED = "which classes are absent is asked with texts that list the classes; leave out the caption, or drop_absent"
LIKELIEST = "none of the classes seems to be in the image; only {name!r}, the likeliest, was kept"
UNMEASURED = "which classes are absent was measured on the embedded models alone, not on {name}; check what was dropped"


def gains(segmenter: Segmenter, image: Image, prompt: Prompt, seed: int = 0) -> dict[str, float]:
    """How much the error of the predicted clean latent rises without each class, relative to the error with all.

    :data:`NOISES` plain forwards for each class and as many more.

    Args:
        prompt: whose text lists its classes, without a caption.
        seed: of the first noise; each is the same for all texts.
    """
    texts = [prompt.text]
    for concept in prompt.classes:
        rest = [each for each in prompt.classes if each is not concept]
        texts.append(prompt_of(segmenter, rest, prompt.background).text if rest else "")
    latents, size = segmenter.encode([image]), segmenter.forward_batch()
    errors = np.zeros(len(texts))
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        same = latents.expand(len(part), *latents.shape[1:])
        for noise in range(NOISES):
            errors[start : start + size] += segmenter.prediction_errors(same, part, TIMESTEP, (seed + noise) % SEEDS)
    rises = errors[1:] / max(errors[0], np.finfo(np.float32).tiny) - 1
    return {concept.name: float(rise) for concept, rise in zip(prompt.classes, rises, strict=True)}


def prompt_of(segmenter: Segmenter, classes: Sequence[Concept], background: Sequence[Concept]) -> Prompt:
    """The prompt that lists these classes and background phrases."""
    names, phrases = (["|".join(each.words) for each in part] for part in (classes, background))
    return segmenter.prompt(names, background=phrases)


@dataclass(frozen=True)
class Absent:
    """What :func:`find_absent` found.

    Attributes:
        prompt: without the absent classes.
        dropped: their gains by name.
        notes: sentences for the user.
    """

    prompt: Prompt
    dropped: dict[str, float]
    notes: tuple[str, ...]

    def note(self, result: Segmentation) -> Segmentation:
        """The result with what is known of the absent classes."""
        return replace(result, dropped=self.dropped, notes=(*result.notes, *self.notes))


def find_absent(segmenter: Segmenter, image: Image, prompt: Prompt, seed: int = 0) -> Absent:
    """The classes of a prompt that seem not to be in the image."""
    return drop(segmenter, prompt, gains(segmenter, image, prompt, seed))


def drop(segmenter: Segmenter, prompt: Prompt, found: Mapping[str, float]) -> Absent:
    """The prompt without the classes whose gain is less than :data:`LEAST_GAIN`; where all are, the likeliest stays.

    Args:
        found: the gain of every class.
    """
    likeliest = max(found, key=lambda name: found[name])
    kept = [each for each in prompt.classes if found[each.name] >= LEAST_GAIN or each.name == likeliest]
    names = {each.name for each in kept}
    dropped = {name: gain for name, gain in found.items() if name not in names}
    notes = [DROPPED.format(name=name) for name in dropped]
    if found[likeliest] < LEAST_GAIN:
        notes.append(LIKELIEST.format(name=likeliest))
    if segmenter.model.spec.vocabulary is None:
        notes.append(UNMEASURED.format(name=segmenter.model.spec.name))
    return Absent(prompt_of(segmenter, kept, prompt.background) if dropped else prompt, dropped, tuple(notes))
