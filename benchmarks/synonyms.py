"""What a class should make of its synonyms: the mean over the tokens of all of them, or their maximum.

    python benchmarks/synonyms.py scenes-dit 4 [--limit 100]

*One thing* gives every class of a scene the name of an absent class for a synonym, first or second at random. *Two
things* makes one class of two objects that are present and of a third, absent name. Differences are to the mean over
the tokens, with 95% intervals of a paired bootstrap over the scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goca import Segmenter
from goca.datasets.scenes import CLASS_NAMES, LOWER, OBJECTS, UPPER, Scene, make_scene
from goca.maps.background import assign_labels
from goca.maps.post import post_process
from goca.maps.refine import refine
from goca.maps.rescale import RESCALE_RULES, TINY, content_share
from goca.maps.views import flip, mean_maps
from goca.method import ResolvedMethod
from goca.types import ScoreMaps

PRESETS = ("paper", "sharp")
RULES = ("mean", "maximum before", "maximum after")
Words = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Question:
    """What is asked of a scene: the words of each class, the class of the scenes it counts for, and the true labels."""

    title: str
    words: Words
    names: Sequence[str]
    labels: np.ndarray


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """The true names, one thing and, of scenes with two objects, two things; each also with the first words alone."""
    names, used = list(scene.classes), set(scene.classes)
    labels = np.stack([scene.labels == CLASS_NAMES.index(name) for name in names]).argmax(0)

    def absent(kinds: Sequence[str]) -> str:
        left = [kind for kind in kinds if kind not in used]
        name = left[rng.integers(len(left))]
        used.add(name)
        return name

    pairs = []
    for name in names:
        other = absent(next(kinds for kinds in (UPPER, LOWER, tuple(OBJECTS)) if name in kinds))
        pairs.append([other, name] if rng.random() < 0.5 else [name, other])
    asked = [
        Question("true names", [[name] for name in names], names, labels),
        Question("one thing, first word", [pair[:1] for pair in pairs], names, labels),
        Question("one thing", pairs, names, labels),
    ]
    things = [name for name in names if name in OBJECTS][:2]
    if len(things) == 2:
        rest = [name for name in names if name not in things]
        three = [*things, absent(tuple(OBJECTS))]
        group = [three[place] for place in rng.permutation(3)]
        merged = sum((scene.labels == CLASS_NAMES.index(name)) * place for place, name in enumerate(rest, 1))
        for title, own in (("two things, first word", group[:1]), ("two things", group)):
            words = [own, *([name] for name in rest)]
            asked.append(Question(title, words, [things[0], *rest], np.asarray(merged)))
    return asked


def class_maps(
    tokens: Tensor, content: tuple[int, ...], words: Sequence[list[tuple[int, ...]]], rescaling: str, rule: str
) -> Tensor:
    """Maps of classes from maps of tokens; ``words`` are the tokens of each word of each class."""
    steps = RESCALE_RULES[rescaling]
    groups = [[tuple(token for word in each for token in word)] for each in words] if rule == "mean" else words
    ends = np.cumsum([len(each) for each in groups])
    raw = torch.stack([tokens[list(word)].mean(0) for each in groups for word in each])

    def join(maps: Tensor) -> Tensor:
        return torch.stack([maps[end - len(each) : end].amax(0) for end, each in zip(ends, groups, strict=True)])

    raw = raw if rule == "maximum after" else join(raw)
    maps = raw / content_share(tokens, content).clamp_min(TINY) if steps.share else raw
    maps = maps if steps.normalise is None else steps.normalise(maps)
    maps = maps * raw if steps.times_raw else maps
    maps = maps if steps.finish is None else steps.finish(maps)
    return join(maps) if rule == "maximum after" else maps


@torch.inference_mode()
def label(segmenter: Segmenter, scene: Scene, words: Words, method: ResolvedMethod) -> dict[str, np.ndarray]:
    """Labels of a scene by every rule, from one recording."""
    prompt = segmenter.prompt([word for each in words for word in each])
    places = {concept.name: concept.tokens for concept in prompt.classes}
    tokens = [[places[word] for word in each] for each in words]
    conditioning = segmenter.encode_prompts([prompt.text])
    found: dict[str, list[ScoreMaps]] = {rule: [] for rule in RULES}
    for timestep, flipped in method.views:
        latents = segmenter.encode([scene.image], mirrored=flipped)
        aggregators = {0: [segmenter.aggregator(method, (latents.shape[-2], latents.shape[-1]))]}
        segmenter._record(latents, timestep, conditioning, 0, aggregators)
        aggregation = aggregators[0][0].finish()
        for rule, views in found.items():
            maps = class_maps(aggregation.token_maps, prompt.content_tokens, tokens, method.method.rescale, rule)
            scores = ScoreMaps(tuple(each[0] for each in words), maps, torch.zeros_like(maps[0]))
            refined = refine(scores, aggregation.refiner, method.refine_order)
            views.append(flip(refined) if flipped else refined)
    labels = {}
    for rule, views in found.items():
        maps = post_process(mean_maps(views), scene.image, method.method.pamr, method.method.post)
        labels[rule] = np.asarray(assign_labels(maps, scene.labels.shape, None, 0.0))
    return labels


def count(labels: np.ndarray, question: Question) -> np.ndarray:
    """Intersection and union of each class of the scenes."""
    counts = np.zeros((2, len(CLASS_NAMES)))
    for place, name in enumerate(question.names):
        true, found = question.labels == place, labels == place
        counts[:, CLASS_NAMES.index(name)] = (true & found).sum(), (true | found).sum()
    return counts


def miou(counts: np.ndarray) -> float:
    """Of counts of scenes x (intersection, union) x classes; over the classes that occur."""
    intersection, union = counts.sum(axis=0)
    return float((intersection[union > 0] / union[union > 0]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("series", type=int)
    parser.add_argument("--limit", type=int, default=100)
    options = parser.parse_args()
    segmenter = Segmenter.from_pretrained(options.model)
    counts: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for index in range(options.limit):
        scene = make_scene(options.series, index)
        for question in questions(scene, np.random.default_rng((options.series, index, 14))):
            for preset in PRESETS:
                found = label(segmenter, scene, question.words, segmenter.resolve(preset))
                for rule, labels in found.items():
                    counts.setdefault((preset, question.title, rule), []).append(count(labels, question))
    rng = np.random.default_rng(0)
    for (preset, title, rule), each in counts.items():
        scenes, mean = np.stack(each), np.stack(counts[preset, title, "mean"])
        line = f"{preset}, {title}, {rule}: {miou(scenes):.3f} of {len(scenes)} scenes"
        if rule != "mean":
            draws = rng.integers(len(scenes), size=(1000, len(scenes)))
            low, high = np.percentile([miou(scenes[draw]) - miou(mean[draw]) for draw in draws], [2.5, 97.5])
            line += f", {miou(scenes) - miou(mean):+.3f} [{low:+.3f}, {high:+.3f}] to the mean"
        print(line, flush=True)


if __name__ == "__main__":
    main()
