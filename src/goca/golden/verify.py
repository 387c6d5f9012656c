"""Golden files: run the real code on recorded inputs and compare with the published code's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from goca.evaluation.counting import decide
from goca.evaluation.metrics import count_pixels, intersection_union, mean_iou
from goca.golden.alignment import count_differences
from goca.guidance.scfg import guidance_rate, guided_noise, region_masks
from goca.maps.aggregate import MapAggregator
from goca.maps.refine import refine
from goca.maps.rescale import rescale
from goca.storage.json_reader import parse_json, read_json
from goca.types import Concept, CrossRecord, LayerRecord, OutputProjection, Prompt, ScoreMaps

MAPS_TOLERANCE = 1e-4
MIOU_TOLERANCE = 1e-9
GUIDANCE_TOLERANCE = 1e-4
MASK_TOLERANCE = 0.005  # share of the pixels, where maps tie

Case = dict[str, Any]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Check:
    """One golden case: its kind and name, the largest difference, what is allowed, and a sentence where there is more
    to say."""

    kind: str
    name: str
    difference: float
    tolerance: float
    passed: bool
    message: str = ""


def verify(paths: Iterable[str | Path], tokenizer: Path | None = None) -> Iterator[Check]:
    """Check every golden file among ``paths``, files or folders (walked to the bottom); a broken file is a failed
    check.

    Args:
        tokenizer: folder of the tokenizer of ``alignment`` cases; by default it lies beside the file.

    Raises:
        ValueError: a path does not exist, or there is no golden file at all.
    """
    files = _golden_files(paths)
    if not files:
        raise ValueError("no golden file there; give .safetensors or .json case files, or a folder that holds some")
    for path in files:
        yield verify_file(path, tokenizer)


def verify_file(path: Path, tokenizer: Path | None = None) -> Check:
    """Check one golden file; its kind is read from its content. See :func:`verify`."""
    kind = "unknown"
    try:
        case, tensors = _read(path)
        kind = case_kind(case, tensors)
        if kind == "alignment":
            wrong, message = count_differences(case, tokenizer or path.parent / f"{case['tokenizer']}_tokenizer")
            return Check(kind, path.stem, float(wrong), 0.0, wrong == 0, message)
        if kind not in CHECKS:
            return _broken(kind, path, f"cases of kind {kind!r} are not supported yet")
        difference, tolerance = CHECKS[kind](case, tensors)
    except KeyError as error:
        return _broken(kind, path, f"the case lacks {error}")
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, OSError, SafetensorError) as error:
        return _broken(kind, path, f"{type(error).__name__}: {error}")
    return Check(kind, path.stem, difference, tolerance, difference <= tolerance)


def case_kind(case: Case, tensors: Tensors) -> str:
    """``maps``, ``guidance``, ``evaluation``, ``alignment``, or ``unknown``."""
    if "expected.class_maps" in tensors:
        return "maps"
    if "expected.rate" in tensors:
        return "guidance"
    if "expected_miou" in case:
        return "evaluation"
    if "append_background" in case and "cases" in case:
        return "alignment"
    return "unknown"


def golden_records(case: Case, tensors: Tensors, branch: str = "") -> list[LayerRecord]:
    """The layers of a ``maps`` case, or of one half (``branch`` "positive." or "negative.") of a ``guidance`` case."""
    records: list[LayerRecord] = []
    for index, (heads, grid) in enumerate(zip(case["heads"], case["grids"], strict=True)):
        part = f"layer{index}.{branch}"
        weight = tensors.get(f"layer{index}.out_weight")
        records.append(
            CrossRecord(
                name=f"layer{index}",
                grid=(grid[0], grid[1]),
                cross_query=_split_heads(tensors[f"{part}cross_query"], heads),
                cross_key=_split_heads(tensors[f"{part}cross_key"], heads),
                cross_value=_optional_heads(tensors.get(f"{part}cross_value"), heads),
                projection=None if weight is None else OutputProjection(weight),
                self_query=_optional_heads(tensors.get(f"{part}self_query"), heads),
                self_key=_optional_heads(tensors.get(f"{part}self_key"), heads),
                reference=tensors[f"{part}cross_query"] if index == case["reference_layer"] else None,
            )
        )
    return records


def golden_aggregator(case: Case) -> MapAggregator:
    """The aggregator that a ``maps`` or ``guidance`` case asks for."""
    return MapAggregator(
        case["head_method"],
        case["layer_method"],
        (case["size"], case["size"]),
        [f"layer{index}" for index in range(len(case["grids"]))],
        f"layer{case['reference_layer']}",
        [f"layer{index}" for index in case["refine_layers"]],
        case["refine_order"],
    )


def check_maps(case: Case, tensors: Tensors) -> tuple[float, float]:
    """Largest difference of class maps, before and after refinement."""
    aggregator = golden_aggregator(case)
    for record in golden_records(case, tensors):
        aggregator.add(record)
    aggregation = aggregator.finish()
    classes = tuple(Concept(str(ids), (), tuple(ids)) for ids in case["objects"])
    background = tuple(Concept(str(ids), (), tuple(ids)) for ids in case["background"])
    prompt = Prompt("", classes, background, tuple(case["content"]))
    scores = rescale(aggregation.token_maps, prompt, case["rescale_method"])
    refined = refine(scores, aggregation.refiner, case["refine_order"])
    differences = [
        _difference(torch.cat([found.maps, found.background[None]]), tensors[f"expected.{name}"])
        for name, found in (("class_maps", scores), ("refined_maps", refined))
    ]
    return float(np.max(differences)), MAPS_TOLERANCE  # unlike max(), NaN stays NaN and fails


def check_guidance(case: Case, tensors: Tensors) -> tuple[float, float]:
    """Largest difference of rate and guided noise, computed from the expected masks.

    Masks that differ in more than :data:`MASK_TOLERANCE` of the pixels fail: then that share, if it is the larger.
    """
    halves = []
    for branch in ("positive.", "negative."):
        aggregator = golden_aggregator(case)
        for record in golden_records(case, tensors, branch):
            aggregator.add(record)
        halves.append(aggregator.finish())
    positive, negative = halves
    order, size, scale = case["refine_order"], (case["size"], case["size"]), case["guidance_scale"]
    expected, foreground = tensors["expected.token_masks"], tensors["expected.foreground_mask"]
    tokens = range(max(case["content"]) + 1)
    masks = torch.zeros_like(expected)
    masks[: len(tokens)], found = region_masks(
        positive, negative.token_maps[0], tokens, case["content"], case["rescale_method"], order, size
    )
    wrong = [float((masks != expected).any(dim=0).float().mean()), float((found != foreground[0]).float().mean())]
    uncond, text = tensors["noise_uncond"], tensors["noise_text"]
    rate = guidance_rate(uncond[0], text[0], expected, foreground[0], scale)
    differences = [
        _difference(rate[None], tensors["expected.rate"]),
        _difference(guided_noise(uncond, text, rate, scale), tensors["expected.guided_noise"]),
        *(share for share in wrong if share > MASK_TOLERANCE),
    ]
    return float(np.max(differences)), GUIDANCE_TOLERANCE


def check_evaluation(case: Case, tensors: Tensors) -> tuple[float, float]:
    """Largest difference of the mIoU over the thresholds; any pixel count that differs counts as at least 1."""
    worst = 0.0
    for threshold in case["thresholds"]:
        pixels = np.zeros((case["classes"], case["classes"]), np.int64)
        for index, present in enumerate(case["present"]):
            maps, target = tensors[f"sample{index}.maps"], tensors[f"sample{index}.label"]
            scores = ScoreMaps(tuple(map(str, present)), maps[:-1], maps[-1])
            size, rule = (target.shape[0], target.shape[1]), case["background_method"]
            labels = decide(scores, present, size, rule, [float(threshold)], case["classes"]).labels()
            pixels += count_pixels(labels, target.numpy(), case["classes"])
        expected = np.array(case["expected_intersection_union"][str(threshold)])
        found = intersection_union(pixels)
        counts = float(np.abs(found - expected).max())
        worst = max(worst, counts, abs(mean_iou(found, "paper") - case["expected_miou"][str(threshold)]))
    return worst, MIOU_TOLERANCE


CHECKS: dict[str, Callable[[Case, Tensors], tuple[float, float]]] = {
    "maps": check_maps,
    "evaluation": check_evaluation,
    "guidance": check_guidance,
}


def _golden_files(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given; of folders, every safetensors file and the JSON files that are cases (a tokenizer's are not)."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(
                file for file in path.rglob("*") if file.suffix in (".safetensors", ".json") and file.is_file()
            )
            files += [file for file in found if file.suffix == ".safetensors" or _is_json_case(file)]
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path} does not exist; give a golden file or a folder of them")
    return files


def _is_json_case(path: Path) -> bool:
    try:
        content = read_json(path)
    except ValueError:
        return True  # damaged: let its check say so
    return isinstance(content, dict) and case_kind(content, {}) != "unknown"


def _read(path: Path) -> tuple[Case, Tensors]:
    if path.suffix == ".json":
        return _check_case(read_json(path)), {}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "case" not in metadata:
            raise ValueError("the file has no case in its metadata; it is no golden file")
        case = _check_case(parse_json(metadata["case"], f"the case of {path}"))
        return case, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _check_case(content: Any) -> Case:
    if not isinstance(content, dict):
        raise ValueError("the case is no JSON object; it is no golden file")
    return content


def _split_heads(tensor: Tensor, heads: int) -> Tensor:
    return tensor.unflatten(1, (heads, -1)).transpose(0, 1)


def _optional_heads(tensor: Tensor | None, heads: int) -> Tensor | None:
    return None if tensor is None else _split_heads(tensor, heads)


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"maps of shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    return float((found.double() - expected.double()).abs().max())


def _broken(kind: str, path: Path, message: str) -> Check:
    return Check(kind, path.stem, float("nan"), 0.0, False, message)
