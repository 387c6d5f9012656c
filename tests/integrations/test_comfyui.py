"""The nodes as ComfyUI uses them: found in a folder, asked for their inputs, called by name inside inference mode.

ComfyUI itself is no package that could be installed; the checks of inputs and outputs follow its documented interface.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from goca import Segmenter
from goca.datasets.scenes import make_scene
from goca.integrations import comfyui
from goca.method import PRESETS
from goca.models import list_models

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
WIDGETS = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str}
SCENES = [make_scene(seed=2026, index=index) for index in range(2)]
CLASSES = sorted({name for scene in SCENES for name in scene.classes})


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    comfyui._loaded.clear()


@pytest.fixture(scope="module")
def nodes() -> dict[str, type]:
    """The nodes of the folder, imported as ComfyUI imports a folder in custom_nodes."""
    spec = importlib.util.spec_from_file_location("custom_nodes.goca", FOLDER / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.NODE_DISPLAY_NAME_MAPPINGS) == set(module.NODE_CLASS_MAPPINGS)
    return module.NODE_CLASS_MAPPINGS


def run(node: type, **values: Any) -> tuple[Any, ...]:
    """Call a node with the defaults of its inputs and these values, like ComfyUI's executor."""
    inputs = {name: each for part in node.INPUT_TYPES().values() for name, each in part.items()}
    assert values.keys() <= inputs.keys()
    given = {name: each[1]["default"] for name, each in inputs.items() if name not in values} | values
    with torch.inference_mode():
        answer = getattr(node(), node.FUNCTION)(**given)
    assert len(answer) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    for kind, value in zip(node.RETURN_TYPES, answer, strict=True):
        check_output(kind, value)
    return answer


def check_output(kind: str, value: Any) -> None:
    """What ComfyUI's other nodes expect of a type."""
    if kind == "STRING":
        assert isinstance(value, str)
        return
    assert isinstance(value, Tensor) and value.dtype == torch.float32 and value.device.type == "cpu"
    assert value.min() >= 0 and value.max() <= 1
    assert value.ndim == {"MASK": 3, "IMAGE": 4}[kind]
    assert kind == "MASK" or value.shape[-1] == 3


def images(channels: int = 3) -> Tensor:
    """The scenes as ComfyUI's IMAGE."""
    arrays = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in SCENES])).float() / 255
    return torch.cat([arrays, torch.ones(*arrays.shape[:3], channels - 3)], dim=-1)


def test_inputs_are_widgets_with_defaults_that_they_allow(nodes: dict[str, type]) -> None:
    for node in nodes.values():
        for part, inputs in node.INPUT_TYPES().items():
            assert part in ("required", "optional")
            for name, (kind, *rest) in inputs.items():
                if kind == "IMAGE":
                    continue
                (options,) = rest
                if isinstance(kind, list):
                    assert options["default"] in kind, name
                else:
                    assert isinstance(options["default"], WIDGETS[kind]), name
                    if kind in ("INT", "FLOAT"):
                        assert options["min"] <= options["default"] <= options["max"], name


def test_choices_come_from_the_registries(nodes: dict[str, type]) -> None:
    inputs = nodes["GoCASegment"].INPUT_TYPES()["required"]
    assert inputs["model"][0] == [spec.name for spec in list_models()]
    assert set(PRESETS) < set(inputs["preset"][0])


def test_nothing_of_comfyui_is_imported() -> None:
    for path in (Path(comfyui.__file__), FOLDER / "__init__.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= {
                *("__future__", "gc", "collections", "contextlib", "typing", "numpy", "torch", "jaxtyping", "PIL"),
                "goca",
            }


@pytest.mark.parametrize("channels", [3, 4])
def test_masks_are_those_of_the_segmenter(nodes: dict[str, type], channels: int) -> None:
    masks, scores, names = run(nodes["GoCASegment"], image=images(channels), classes="\n".join(CLASSES), seed=3)
    expected = Segmenter.from_pretrained("scenes-dit")([scene.image for scene in SCENES], CLASSES, seed=3)
    assert names.splitlines() == CLASSES
    assert masks.shape == scores.shape == (2 * len(CLASSES), 128, 128)
    assert np.array_equal(masks.numpy(), np.concatenate([result.masks for result in expected]))
    assert np.array_equal(scores.numpy(), np.concatenate([result.scores for result in expected]))


def test_a_model_of_ones_own_with_another_preset(nodes: dict[str, type], dit_folder: Path) -> None:
    options = {"classes": "cat|kitten, grass", "background": "background", "model_path": f" {dit_folder} "}
    masks, _, names = run(nodes["GoCASegment"], image=images()[:1], preset="vanilla", **options)
    assert names.splitlines() == ["cat", "grass", "background"] and len(masks) == 3
    assert torch.equal(masks.sum(dim=0), torch.ones(128, 128))


def test_the_model_is_kept_or_let_go(nodes: dict[str, type]) -> None:
    options = {"image": images()[:1], "classes": ",".join(CLASSES)}
    run(nodes["GoCASegment"], **options)
    kept = comfyui._loaded["scenes-dit"]
    run(nodes["GoCASegment"], **options)
    assert comfyui._loaded == {"scenes-dit": kept}
    run(nodes["GoCASegment"], **options, model="scenes-unet")
    assert list(comfyui._loaded) == ["scenes-unet"]
    run(nodes["GoCASegment"], **options, model="scenes-unet", keep_model_loaded=False)
    assert not comfyui._loaded


def test_a_refusal_lets_the_model_go_too(nodes: dict[str, type]) -> None:
    with pytest.raises(ValueError, match="at least one thing"):
        run(nodes["GoCASegment"], image=images(), classes=" ", keep_model_loaded=False)
    assert not comfyui._loaded


def test_draw_and_segment(nodes: dict[str, type]) -> None:
    prompt = f"a {SCENES[0].classes[0]} and {SCENES[0].classes[1]}"
    image, masks, names = run(nodes["GoCAGenerate"], prompt=prompt, steps=2, seed=1)
    assert image.shape == (1, 128, 128, 3) and image.std() > 0
    assert len(names.splitlines()) == len(masks) == 2
    assert torch.equal(masks.sum(dim=0), torch.ones(128, 128))
    plain, *_ = run(nodes["GoCAGenerate"], prompt=prompt, steps=2, seed=1, guidance="cfg")
    assert not torch.equal(plain, image)
