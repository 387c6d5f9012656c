"""Loading any pipeline of a supported family, by name, hub id, folder or file."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goca.lookup import look_up
from goca.messages import one_line
from goca.models.devices import check_device, find_dtype
from goca.models.hub import hub_errors, pipeline_index
from goca.models.specs import EMBEDDED_VAE, MODELS, WEIGHTS, ModelSpec
from goca.notes import captured_messages, notify

if TYPE_CHECKING:
    import torch

    from goca.backbones import Backbone

OFFLOADING = ("model", "sequential")
_one_at_a_time = threading.Lock()  # reading weights changes the process's default number type for a while


@dataclass(frozen=True)
class LoadedModel:
    """A specification with the pipeline behind it, ready to record."""

    spec: ModelSpec
    pipeline: Any
    backbone: Any


def list_models() -> list[ModelSpec]:
    """All models known by name, embedded ones first."""
    return list(MODELS.values())


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    offload: str | None = None,
    lora: str | None = None,
) -> LoadedModel:
    """Load a model by name, hub id, local folder or single-file checkpoint.

    Args:
        device: the first accelerator, else the CPU, by default.
        dtype: float32, float16 or bfloat16, or torch's own; by default float32 on the CPU and for embedded models; on
            an accelerator bfloat16, which suits every family, or float16 where a CUDA card is too old for it.
        revision: branch, tag or commit of a hub repository.
        offload: where idle weights are kept: ``None`` (on the device), ``"model"`` (each component in
            main memory until its turn) or ``"sequential"`` (each layer; least memory, slowest).
        lora: hub id, folder or file of a LoRA to put on top.

    Raises:
        ValueError: an unknown name, device or number type, a folder without a pipeline, a pipeline of an unsupported
            class, or offloading without an accelerator.
        OSError: the hub cannot be reached or refuses the model. MemoryError: the device is too small.
    """
    import torch

    from goca.ambient import neutral

    if offload is not None:
        look_up(OFFLOADING, offload, "offloading")
    check_device(device)
    dtype = find_dtype(dtype)
    device = torch.device(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
    if offload is not None and device.type == "cpu":
        raise ValueError("offloading moves weights between an accelerator and main memory; leave it out on a CPU")
    spec = MODELS.get(name)
    if dtype is None:
        embedded = spec is not None and spec.vocabulary is not None
        old = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        half = torch.float16 if old else torch.bfloat16
        dtype = torch.float32 if embedded or device.type == "cpu" else half
    with memory_errors(name), _one_at_a_time, neutral(), captured_messages() as messages:
        pipeline = _read_pipeline(name, dtype, revision)
        _check_weights(name, pipeline, messages)
        if lora is not None:
            _add_lora(pipeline, lora)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
        if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.float()  # its activations exceed float16
        if offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return wrap(name, pipeline)


def _read_pipeline(name: str, dtype: torch.dtype, revision: str | None) -> Any:
    import diffusers

    source = find_source(name)
    if Path(source).is_file():
        return _read_single_file(source, dtype)
    spec = MODELS.get(name)
    whole = source if spec is None or spec.rest_source is None else spec.rest_source
    whole_revision = revision if whole == source else None
    index = pipeline_index(whole, whole_revision)
    class_name = index["_class_name"]
    left_out = dict(backbone_class(class_name, name).unused_parts)
    left_out |= {part: None for part, home in index.items() if home == [None, None]}  # e.g. SD 3 saved without T5
    if not hasattr(diffusers, class_name):
        raise ValueError(
            f"{name} is a {class_name}, which diffusers does not have; load it yourself and use "
            "Segmenter.from_pipeline(pipeline)."
        )
    elsewhere: dict[str, Any] = {}
    if whole != source:
        part = backbone_class(class_name, name).denoiser_name
        with hub_errors(source):
            elsewhere[part] = getattr(diffusers, index[part][1]).from_pretrained(
                source, subfolder=part, dtype=dtype, revision=revision
            )
    if Path(whole).is_dir() and Path(whole).resolve().parent == WEIGHTS:
        elsewhere["vae"] = diffusers.AutoencoderKL.from_pretrained(EMBEDDED_VAE, dtype=dtype)
    with hub_errors(whole):
        return getattr(diffusers, class_name).from_pretrained(
            whole, dtype=dtype, revision=whole_revision, **left_out, **elsewhere
        )


def _check_weights(name: str, pipeline: Any, messages: Sequence[str]) -> None:
    """Refuse a model whose denoiser or VAE lacks weights, which the libraries would draw at random, and warn where
    another component may."""
    import torch

    parts = {key: part for key, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    empty = sorted(key for key, part in parts.items() if any(each.is_meta for each in part.parameters()))
    if empty:
        raise ValueError(f"{name} lacks weights of its {' and '.join(empty)}; get the model again")
    for message in messages:
        if "newly initialized" in message:
            notify([f"{name} lacks weights, which are random now ({one_line(message, 160)}); get the model again"])


def _read_single_file(path: str, dtype: torch.dtype) -> Any:
    """A checkpoint in one file; what kind it is follows from its tensors, and the rest from that model's repository."""
    import diffusers
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint

    try:
        source = fetch_diffusers_config(load_single_file_checkpoint(path))["pretrained_model_name_or_path"]
    except Exception as error:
        raise ValueError(f"{path} is no checkpoint that diffusers can read ({error}).") from error
    class_name = pipeline_index(source, None)["_class_name"]
    family = backbone_class(class_name, path)
    with hub_errors(source):
        return getattr(diffusers, class_name).from_single_file(
            path, config=source, torch_dtype=dtype, **family.unused_parts
        )


def _add_lora(pipeline: Any, lora: str) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"{type(pipeline).__name__} takes no LoRA; leave it out.")
    with hub_errors(lora):
        pipeline.load_lora_weights(lora)


@contextmanager
def memory_errors(name: str) -> Iterator[None]:
    """Turn the ways of running out of memory into one sentence that says which switches help."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        spec = MODELS.get(name)
        needed = f", which needs about {spec.memory_gib:.0f} GiB in 16 bits" if spec and spec.memory_gib else ""
        raise MemoryError(
            f"the device has too little memory for {name}{needed}; take --dtype bfloat16, --offload model, "
            "--offload sequential, a smaller --size, or a smaller model."
        ) from error


def backbone_class(pipeline: type | str, name: str) -> type[Backbone]:
    """The backbone of a diffusers pipeline class, or of the class of that name.

    Raises:
        ValueError: no family records it; the message calls the model ``name`` and lists the classes.
    """
    from goca.backbones import BACKBONES
    from goca.backbones.settings import find_pipeline

    class_name = pipeline if isinstance(pipeline, str) else pipeline.__name__
    hint = ", or register a family of your own (docs/adding-a-model.md)"
    return look_up(BACKBONES, find_pipeline(BACKBONES, pipeline) or class_name, f"pipeline class of {name}", hint=hint)


def wrap(name: str, pipeline: Any) -> LoadedModel:
    """Make a pipeline that is already in memory ready to record.

    Args:
        name: a key of :data:`MODELS`, whose settings are then used; for any other name they are derived from the
            architecture by the family's own rule, see :meth:`goca.backbones.Backbone.derive_settings`.
        pipeline: a diffusers pipeline of a supported class, of a subclass, or of a variant with a ControlNet or an
            image beside the text, neither of which takes part.

    Raises:
        ValueError: a class that no family records, or a part that is missing.
    """
    from goca.models.completeness import check_parts

    class_name = type(pipeline).__name__
    family = backbone_class(type(pipeline), name)
    check_parts(pipeline, family, name)
    denoiser = getattr(pipeline, family.denoiser_name)
    description = f"{class_name} with settings derived from its architecture"
    spec = MODELS.get(name) or ModelSpec(name, (class_name,), name, image_size=0, description=description)
    if not spec.reference_layer:
        settings = family.derive_settings(family.find_layers(getattr(denoiser, "_orig_mod", denoiser)))
        spec = replace(spec, **vars(settings))
    backbone = family(pipeline, spec.reference_layer)
    size = spec.image_size or backbone.image_size
    parameters = sum(parameter.numel() for parameter in denoiser.parameters())
    return LoadedModel(replace(spec, parameters=parameters, image_size=size), pipeline, backbone)


def find_source(name: str) -> str:
    """Hub id or folder behind what the user typed.

    Raises:
        ValueError: a name that nothing has.
    """
    if name not in MODELS and (Path(name).exists() or re.fullmatch(r"[\w.-]+/[\w.-]+", name)):
        return name
    hint = ", a hub id like owner/name, or an existing local folder or checkpoint file"
    spec = look_up(MODELS, name, "model", hint=hint)
    if spec.vocabulary is not None and not Path(spec.source).is_dir():
        raise ValueError(f"The weights of {name} are missing from this installation; reinstall goca.")
    return spec.source
