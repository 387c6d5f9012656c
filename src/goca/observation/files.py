"""An explanation as files: JSON, ``.npz``, a page and pictures."""

from __future__ import annotations

import glob
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from goca.explorer import payload, save_page
from goca.observation import pictures
from goca.observation.tokens import ROLES
from goca.storage.atomic import remove_leftovers, replace_file, staged_folder
from goca.storage.json_reader import parse_json
from goca.storage.names import file_names
from goca.storage.outputs import check_folder, refuse_existing
from goca.storage.png import read_texts, write_png

if TYPE_CHECKING:
    from goca.observation.explanation import Explanation, PixelScores
    from goca.observation.layers import LayerMaps

FORMAT = 1
DESCRIPTION = "explanation"  # the array of the npz file that holds the JSON


def describe(explanation: Explanation) -> dict[str, Any]:
    """Everything but the maps and the image, for JSON."""
    return {
        "format": FORMAT,
        "image": {"width": explanation.image.width, "height": explanation.image.height},
        "model": explanation.model,
        "settings": dict(explanation.settings),
        "text": explanation.text,
        "classes": list(explanation.classes),
        "notes": list(explanation.notes),
        "calibration": None if (curve := explanation.result.calibration) is None else curve.to_json(),
        "tokens": [
            {
                "position": token.position,
                "text": token.text,
                "role": token.role,
                "concept": token.concept,
                "span": None if token.span is None else list(token.span),
            }
            for token in explanation.tokens
        ],
        "words": {word: list(tokens) for word, tokens in explanation.words.items()},
        "shares": explanation.shares,
        "layers": [_describe_layer(explanation, layer) for layer in explanation.layers],
    }


def describe_pixel(explanation: Explanation, pixel: PixelScores) -> dict[str, Any]:
    """The scores at a pixel, for JSON."""
    stages = {"attention": pixel.attention, "rescaled": pixel.rescaled, "refined": pixel.refined, "score": pixel.scores}
    return {
        "x": pixel.x,
        "y": pixel.y,
        "label": pixel.label,
        "tokens": pixel.tokens.tolist(),
        "classes": {
            name: {stage: float(scores[index]) for stage, scores in stages.items()}
            for index, name in enumerate(explanation.classes)
        },
        "layers": {
            name: {
                "text": scores[:-1].tolist(),
                "special": float(scores[-1]),
                "head_weights": pixel.head_weights[name].tolist(),
            }
            for name, scores in pixel.layers.items()
        },
    }


def write_folder(
    explanation: Explanation,
    folder: Path,
    stem: str,
    pixels: Sequence[PixelScores],
    layer: str | int | None,
    head: int | None,
    overwrite: bool,
) -> dict[str, Path]:
    """All files of an explanation, see :meth:`goca.observation.Explanation.save`."""
    if layer is not None:
        layer = explanation.layer(layer).name
    for each in explanation.layers if layer is None else [explanation.layer(layer)]:
        if head is not None:
            each.head(head)
    content = {**describe(explanation), "pixels": [describe_pixel(explanation, pixel) for pixel in pixels]}
    check_folder(folder)
    earlier = earlier_pictures(folder, stem)
    refuse_existing([*explanation_paths(folder, stem).values(), *earlier], overwrite)
    remove_leftovers(folder, folder.parent)
    with staged_folder(folder, overwrite=overwrite, stale=earlier) as scratch:
        written = explanation_paths(scratch, stem)
        written["json"].write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_npz(written["npz"], explanation)
        save_page(written["html"], payload(explanation, title=stem))
        written |= write_pictures(explanation, scratch, stem, pixels, layer, head)
    return {what: folder / path.name for what, path in written.items()}


def explanation_paths(folder: Path, stem: str) -> dict[str, Path]:
    """Where the JSON, the ``.npz`` file and the page of an explanation are."""
    return {kind: folder / f"{stem}_explanation.{kind}" for kind in ("json", "npz", "html")}


def earlier_pictures(folder: Path, stem: str) -> list[Path]:
    """The pictures of an earlier explanation with that stem; files of other origin are left out."""
    found = sorted(folder.glob(f"{glob.escape(stem)}_*.png"))
    return [path for path in found if read_texts(path).get("Title") == _title(stem)]


def _title(stem: str) -> str:
    return f"explanation of {stem}"


def write_npz(path: str | Path, explanation: Explanation) -> None:
    """Write all arrays and the description to one compressed file, whole or not at all.

    ``explanation`` is the JSON of :func:`describe`; ``image`` [height, width, 3] uint8; ``labels`` [height, width];
    ``maps``, ``class_attention``, ``rescaled``, ``refined`` [classes, rows, columns]; ``token_maps`` [tokens, rows,
    columns]; and for layer number l ``layers/l/maps``, ``layers/l/head_weights``, ``layers/l/head_shares`` and, where
    they were kept, ``layers/l/head_maps``, with the shapes of :class:`goca.observation.LayerMaps`.
    """
    arrays = {
        DESCRIPTION: np.array(json.dumps(describe(explanation), ensure_ascii=False)),
        "image": np.asarray(explanation.image),
        "labels": explanation.result.labels,
        "maps": explanation.result.maps,
        "token_maps": explanation.token_maps,
        "class_attention": explanation.class_attention,
        "rescaled": explanation.rescaled,
        "refined": explanation.refined,
    }
    for index, layer in enumerate(explanation.layers):
        arrays[f"layers/{index}/maps"] = layer.maps
        arrays[f"layers/{index}/head_weights"] = layer.head_weights
        arrays[f"layers/{index}/head_shares"] = layer.head_shares
        if layer.head_maps is not None:
            arrays[f"layers/{index}/head_maps"] = layer.head_maps

    def write(scratch: Path) -> None:
        with scratch.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    replace_file(Path(path), write)


def read_npz(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file that :func:`write_npz` wrote.

    Raises:
        ValueError: the file is damaged, of another kind, or of a newer version. OSError: it cannot be read.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive raises almost anything
        raise ValueError(f"{path} is damaged or no .npz file ({error}); write it again with goca observe") from None
    if DESCRIPTION not in arrays:
        raise ValueError(f"{path} holds no explanation; give a file that goca observe or Explanation.save_npz wrote")
    description = parse_json(str(arrays.pop(DESCRIPTION)), str(path))
    if not isinstance(description, dict):
        raise ValueError(f"{path} holds no explanation; give a file that goca observe or Explanation.save_npz wrote")
    if description.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {description.get('format')} of a newer goca; update goca")
    return description, arrays


def write_pictures(
    explanation: Explanation,
    folder: Path,
    stem: str,
    pixels: Sequence[PixelScores] = (),
    layer: str | None = None,
    head: int | None = None,
) -> dict[str, Path]:
    """Write the pictures ``STEM_*.png`` into a folder; returns their paths by what they show."""
    shown = explanation.layer(layer) if layer is not None else heaviest(explanation.layers)
    draw: dict[str, Callable[[], Image.Image]] = {
        "words": lambda: pictures.draw_words(explanation),
        "shares": lambda: pictures.draw_shares(explanation),
        "layers": lambda: pictures.draw_layers(explanation),
        "head weights": lambda: pictures.draw_head_weights(explanation),
        "stages": lambda: pictures.draw_stages(explanation),
        f"heads of {shown.name}": lambda: pictures.draw_heads(explanation, shown),
    }
    if head is not None and layer is None:
        draw[f"head {head}"] = lambda: pictures.draw_layers(explanation, head)
    for pixel in pixels:
        draw[f"pixel {pixel.x},{pixel.y}"] = lambda pixel=pixel: pictures.draw_pixel(explanation, pixel)  # type: ignore[misc]
    own = "" if layer is None else f" in {shown.name}" + ("" if head is None else f" head {head}")
    for word in explanation.words:
        draw[f"word {word}"] = lambda word=word: pictures.draw_word(explanation, word)  # type: ignore[misc]
        if own:
            draw[f"word {word}{own}"] = lambda word=word: pictures.draw_word(  # type: ignore[misc]
                explanation, word, shown.name, head
            )
    files = {}
    for what, name in zip(draw, file_names(list(draw)), strict=True):
        files[what] = folder / f"{stem}_{name}.png"
        write_png(draw[what](), files[what], Title=_title(stem))
    return files


def heaviest(layers: Sequence[LayerMaps]) -> LayerMaps:
    """The layer of the highest weight among those whose head maps were kept."""
    return max((each for each in layers if each.head_maps is not None), key=lambda each: each.weight)


def _describe_layer(explanation: Explanation, layer: LayerMaps) -> dict[str, Any]:
    return {
        "name": layer.name,
        "grid": list(layer.grid),
        "weight": layer.weight,
        "shares": explanation.layer_shares(layer.name),
        "heads": [
            {"weight": float(weights.mean()), "shares": dict(zip(ROLES, map(float, shares), strict=True))}
            for weights, shares in zip(layer.head_weights, layer.head_shares, strict=True)
        ],
    }
