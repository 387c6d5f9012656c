"""Records of a whole layer from what its modules are seen to compute."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from goca.ambient import neutral
from goca.backbones.hooks import AttentionCall, Recorder, watch_output
from goca.backbones.projection import exact_output
from goca.types import CrossRecord, Grid, LayerRecord

if TYPE_CHECKING:
    from goca.backbones.base import Backbone

OnRecord = Callable[[int, LayerRecord], object]
REFERENCE = "reference"
OUTPUT = "output"


class LeaveDenoiser(Exception):
    """Ends a forward from inside once everything wanted has been recorded."""


def leave_after(layer: str | None, images: int, on_record: OnRecord) -> OnRecord:
    """``on_record`` that raises :class:`LeaveDenoiser` after the last of ``images`` records of ``layer``."""

    def hand_on(image: int, record: LayerRecord) -> None:
        on_record(image, record)
        if record.name == layer and image == images - 1:
            raise LeaveDenoiser

    return hand_on


class LayerCollector:
    """Collects, for each layer, one call of every attention module that belongs to it, the module output that holds the
    reference features and the model's own sum of heads; then hands on one record per image.

    Args:
        backbone: reads a layer's calls as records.
        size: rows and columns of the latents.
        layers: names of the layers to record.
        on_record: receives each image's index and record.
        images: indices of the images to record; ``None`` for all.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: Grid,
        layers: Collection[str],
        on_record: OnRecord,
        images: Collection[int] | None,
    ) -> None:
        self.backbone = backbone
        self.size = size
        self.on_record = on_record
        self.images = images
        self.modules = {layer: backbone.attention_modules(layer) for layer in layers}
        self.projections: dict[str, nn.Linear] = {
            layer: module for layer in layers if exact_output(module := backbone.output_module(layer))
        }
        self._expected = {layer: {*parts, *self._extra_parts(layer)} for layer, parts in self.modules.items()}
        self._collected: dict[str, dict[str, Any]] = {layer: {} for layer in layers}
        self._recorded = dict.fromkeys(layers, 0)

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Collect from every call of the denoiser inside the context that :class:`Recorder` counts.

        Raises:
            RuntimeError: on leaving, a module whose attention was not seen.
        """
        named = {f"{layer}#{part}": module for layer, own in self.modules.items() for part, module in own.items()}
        with ExitStack() as stack:
            stack.enter_context(Recorder(named, self._collect_call))
            reference = self.backbone.reference_layer
            if reference in self.modules:
                receive = partial(self._collect, reference, REFERENCE)
                stack.enter_context(self.backbone.watch_reference(receive))
            for layer, module in self.projections.items():
                stack.enter_context(watch_output(module, partial(self._collect, layer, OUTPUT)))
            yield

    def _extra_parts(self, layer: str) -> Iterator[str]:
        """What is collected of a layer beside the calls of its attention modules."""
        if layer == self.backbone.reference_layer:
            yield REFERENCE
        if layer in self.projections:
            yield OUTPUT

    def _collect_call(self, call: AttentionCall) -> None:
        layer, _, part = call.name.partition("#")
        if torch.is_autocast_enabled(call.query.device.type):
            dtype = self.backbone.dtype
            call = replace(call, query=call.query.to(dtype), key=call.key.to(dtype), value=call.value.to(dtype))
        self._collect(layer, part, call)

    def _collect(self, layer: str, part: str, value: object) -> None:
        """Keep one part of a layer; the last part completes the layer's records."""
        parts = self._collected[layer]
        parts[part] = value
        if parts.keys() == self._expected[layer]:
            self._collected[layer] = {}
            with neutral():
                self._hand_on(layer, parts)

    def _hand_on(self, layer: str, parts: dict[str, Any]) -> None:
        """One record for each image of this call; families may run the images of a batch in several calls."""
        features, output = parts.pop(REFERENCE, None), parts.pop(OUTPUT, None)
        if output is not None and output.dtype != torch.float32:
            output = None  # of a call under autocast; the maths gives it more exactly
        first = self._recorded[layer]
        rows = len(next(iter(parts.values())).query)
        self._recorded[layer] += rows
        for row in range(rows):
            if self.images is None or first + row in self.images:
                self.on_record(first + row, self._read(layer, parts, row, features, output))

    def _read(
        self, layer: str, calls: Mapping[str, AttentionCall], row: int, features: Any, output: Any
    ) -> LayerRecord:
        grid = self.backbone.grid(layer, *self.size)
        record = self.backbone.read(layer, grid, calls, row)
        if features is not None:
            record = replace(record, reference=self.backbone.reference_features(features, grid, calls, row))
        if output is not None and isinstance(record, CrossRecord):
            bias = self.projections[layer].bias
            record = replace(record, output=output[row] if bias is None else output[row] - bias)
        return record
