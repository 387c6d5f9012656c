"""Measure the snapshots of a trained rung: ``python -m goca.embedded.measure dit-1m --seed 0 --run RUN --out FOLDER``.

Each snapshot becomes one JSON file with three parts: the error of denoising held-out scenes, the quality of generated
images, and the segmentation of held-out scenes by several methods. All parts hold numbers per image, so that intervals
can be computed from the file alone. Snapshots whose file is there are not measured again; a file of another
configuration, or of other numbers of scenes or images, is refused.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import DiffusionPipeline

from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.embedded import architectures as arch
from goca.embedded.data import to_unit
from goca.embedded.export import list_snapshots, load_snapshot
from goca.embedded.objectives import clean_errors, denoising_errors
from goca.embedded.rungs import RUNGS, rung_folder
from goca.embedded.train import adopt_vae, option
from goca.evaluation.counting import Totals
from goca.evaluation.experiment import Experiment
from goca.evaluation.generation.scenes import SceneMeasures
from goca.evaluation.generation.statistics import draw_counts, interval
from goca.evaluation.runner import evaluate
from goca.evaluation.summary import summarise
from goca.evaluation.task import ImageResult, Task
from goca.method import PRESETS, Method, find_methods
from goca.models import wrap
from goca.segmenter import Segmenter
from goca.storage.atomic import write_atomically
from goca.storage.json_reader import read_json

SEGMENTED_SERIES = 1801
PROMPT_SERIES = 1802  # the real scenes that generated ones are compared with are those of the series after it
FLOW_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SAMPLING_STEPS, SCALE = 12, 3.0
BATCH = 32
SETTINGS = (
    "image_size",
    "reference_layer",
    "refine_layers",
    "refine_order",
    "timestep",
    "head_rule",
    "layer_rule",
    "manual_layers",
    "output_grid",
)


def methods() -> dict[str, Method]:
    """The methods of the study; none picks layers by hand but ``manual``, see :func:`study_segmenter`."""
    vanilla = replace(PRESETS["vanilla"], layer_set="all")
    paper = PRESETS["paper"]
    rows = {
        "vanilla": vanilla,
        "manual": replace(vanilla, layer_set="manual"),
        "head": replace(vanilla, heads="dot-product w/o clamp"),
        "layer": replace(vanilla, layers="dot-product similarity"),
        "rescale": replace(vanilla, rescale=paper.rescale),
    }
    return {**rows, **find_methods(["paper", "plus", "sharp", "daam", "single-layer"])}


def study_segmenter(name: str, pipeline: DiffusionPipeline) -> Segmenter:
    """A rung with the settings that its family's rule derives from the architecture, all layers aggregated.

    Maps have the resolution of the finest attention. The layers of the manual baseline are :func:`middle_half`.
    """
    model = wrap(name, pipeline)
    layers = model.backbone.layers
    side = max(model.backbone.grid(layer, arch.LATENT_SIDE, arch.LATENT_SIDE)[0] for layer in layers)
    spec = replace(model.spec, manual_layers=middle_half(layers), output_grid=side, image_size=128)
    return Segmenter(replace(model, spec=spec))


def middle_half(layers: Sequence[str]) -> tuple[str, ...]:
    """The middle half of the layers in forward order; of Stable Diffusion 1.5's 16, the eight that were published."""
    return tuple(layers[len(layers) // 4 :][: math.ceil(len(layers) / 2)])


@torch.inference_mode()
def measure_denoising(kind: str, pipeline: Any, scenes: int) -> dict[str, Any]:
    """Mean squared error of the predicted clean latent of held-out scenes at five noise levels.

    Returns:
        ``levels`` (of a rectified flow; unet and dit take timesteps of the same signal-to-noise ratios), and under
        ``errors`` for each level one number per scene.
    """
    drawn = [make_scene(SEGMENTED_SERIES, index) for index in range(scenes)]
    tokenizers = {part: pipeline.components[part] for part in arch.build_tokenizers(kind)}
    encoders = torch.nn.ModuleDict({part: pipeline.components[part] for part in arch.build_model(kind)})
    denoiser = pipeline.components[arch.DENOISERS[kind]]
    errors: dict[str, list[float]] = {str(level): [] for level in FLOW_LEVELS}
    for start in range(0, scenes, BATCH):
        part = drawn[start : start + BATCH]
        images = torch.from_numpy(np.stack([np.asarray(scene.image).transpose(2, 0, 1) for scene in part]))
        clean = pipeline.vae.encode(to_unit(images)).latent_dist.mean * pipeline.vae.config.scaling_factor
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(start))
        captions = [scene.caption for scene in part]
        for level in FLOW_LEVELS:
            flow = np.full(len(part), level)
            found = denoising_errors(kind, encoders, tokenizers, denoiser, captions, clean, noise, flow)
            errors[str(level)] += [round(value, 5) for value in clean_errors(kind, found, flow).tolist()]
    return {"series": SEGMENTED_SERIES, "scenes": scenes, "levels": list(FLOW_LEVELS), "errors": errors}


def measure_generation(kind: str, pipeline: Any, measures: SceneMeasures) -> dict[str, Any]:
    """Quality of the images that the stock pipeline draws for captions of held-out scenes; prompt i has seed i.

    Returns:
        ``frechet`` and ``object_recall`` with 95% intervals, and per image ``recalled``, the share of the named things
        that the scene parser finds, and ``components``, its features in the axes of the reference, whose mean there is
        zero and whose variances are ``reference_variances``.
    """
    options = arch.sampling_options(kind, SAMPLING_STEPS, SCALE)
    features, recalled = [], []
    prompts = measures.prompts
    for start in range(0, len(prompts), BATCH):
        texts = prompts[start : start + BATCH]
        generators = [torch.Generator().manual_seed(start + index) for index in range(len(texts))]
        if "negative_prompt" in options:
            options["negative_prompt"] = [""] * len(texts)
        images = pipeline(texts, generator=generators, **options).images
        for index, prediction in enumerate(measures.judge(images), start=start):
            named = measures.things(index)
            features.append(prediction.features)
            recalled.append(len(prediction.found(named)) / len(named))
    reference = measures.reference
    seen, counts = np.stack(features), draw_counts(len(prompts))
    return {
        "series": PROMPT_SERIES,
        "images": len(prompts),
        "steps": SAMPLING_STEPS,
        "scale": SCALE,
        "frechet": interval(reference.distances(seen, counts)),
        "object_recall": interval(counts @ np.array(recalled) / len(recalled)),
        "recalled": [round(value, 4) for value in recalled],
        "components": [[float(f"{value:.4g}") for value in row] for row in (seen - reference.mean) @ reference.axes.T],
        "reference_variances": [float(f"{value:.6g}") for value in reference.variances],
    }


def measure_segmentation(segmenter: Segmenter, scenes: int) -> dict[str, Any]:
    """Segment held-out scenes by all methods, from shared recordings.

    Returns:
        ``miou`` by method, ``true`` (per scene and class its pixels) and ``counts`` (by method, per scene and class of
        ``true``: pixels where prediction and target agree, and pixels of the prediction).
    """
    experiment = Experiment.open("scenes", limit=scenes, seed=SEGMENTED_SERIES)
    variants = methods()
    task = Task(experiment.dataset.classes, variants, experiment.protocol)
    results = evaluate(segmenter, experiment.dataset, task, limit=scenes)
    answer = summarise(results, task)
    if answer["failures"]:
        raise ValueError(
            f"{len(answer['failures'])} scenes failed, the first because {answer['failures'][0]['reason']}"
        )
    tables = {name: [confusion(result, name) for result in results] for name in variants}
    present = [np.flatnonzero(table.sum(axis=1)) for table in tables["vanilla"]]
    return {
        "series": SEGMENTED_SERIES,
        "scenes": scenes,
        "miou": {result["preset"]: round(result["miou"], 5) for result in answer["results"]},
        "true": [
            {CLASS_NAMES[index]: int(table[index].sum()) for index in classes}
            for table, classes in zip(tables["vanilla"], present, strict=True)
        ],
        "counts": {
            name: [
                [[int(table[index, index]), int(table[:, index].sum())] for index in classes]
                for table, classes in zip(found, present, strict=True)
            ]
            for name, found in tables.items()
        },
    }


def confusion(result: ImageResult, name: str) -> np.ndarray:
    """Pixels [true, predicted] of one scene, which has no background."""
    totals = Totals(len(CLASS_NAMES), 0)
    totals.add(result.counts[name])
    return totals.confusion()


def measure_snapshot(name: str, run: Path, snapshot: Path, measures: SceneMeasures, scenes: int) -> dict[str, Any]:
    """All measurements of one snapshot."""
    rung, started = RUNGS[name], time.process_time()
    pipeline = load_snapshot(rung.kind, run, snapshot, rung.size)
    segmenter = study_segmenter(name, pipeline)
    spec = segmenter.model.spec
    found = {
        "settings": {key: getattr(spec, key) for key in SETTINGS},
        "methods": {key: asdict(variant) for key, variant in methods().items()},
        "denoising": measure_denoising(rung.kind, pipeline, scenes),
        "segmentation": measure_segmentation(segmenter, scenes),
        "generation": measure_generation(rung.kind, pipeline, measures),
    }
    return {**found, "cpu_seconds": round(time.process_time() - started)}


def check_measured(path: Path, head: dict[str, Any], scenes: int, images: int) -> None:
    """Raise ``typer.BadParameter`` where a file holds measurements of something else than this run would make."""
    found = read_json(path)
    wanted = {**head, "scenes": scenes, "images": images}
    parts = {part: found.get(part, {}) for part in ("segmentation", "generation")}
    there = {
        **{key: found.get(key) for key in head},
        "scenes": parts["segmentation"].get("scenes"),
        "images": parts["generation"].get("images"),
    }
    changed = [key for key, value in wanted.items() if there[key] != value]
    if changed:
        raise typer.BadParameter(
            f"{path} was measured with another {', '.join(changed)}; move it away or choose another --out"
        )


def dump(measured: dict[str, Any]) -> str:
    """JSON with one line per part, so that the numbers per image take little room."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in measured.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RUNGS)}.")],
    run: Annotated[Path, typer.Option(help="Folder that the rung was trained in.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME-seedSEED-SAMPLES.json.")],
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes that are denoised and segmented.")] = 200,
    images: Annotated[int, typer.Option(min=2, help="Images that are generated.")] = 200,
) -> None:
    """Measure every snapshot of a rung that was not measured before."""
    option(RUNGS, name, "rung")
    folder = rung_folder(run, name, seed)
    snapshots: Sequence[Path] = list_snapshots(folder.name, run)
    if not snapshots:
        raise typer.BadParameter(f"{folder} holds no snapshot; run `python -m goca.embedded.train rung {name}` first")
    if not (run / "vae").exists():
        adopt_vae(run)
    out.mkdir(parents=True, exist_ok=True)
    measures = SceneMeasures(run, images, PROMPT_SERIES)
    for snapshot in reversed(snapshots):  # the newest tells the most
        path = out / f"{folder.name}-{snapshot.stem}.json"
        head = {"configuration": read_json(folder / "config.json"), "samples": int(snapshot.stem)}
        if path.exists():
            check_measured(path, head, scenes, images)
            continue
        write_atomically(path, dump({**head, **measure_snapshot(name, run, snapshot, measures, scenes)}))
        print(path)


if __name__ == "__main__":
    typer.run(main)
