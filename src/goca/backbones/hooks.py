"""Seeing every attention call of a model without changing the model.

Forward hooks tell which attention module is running; while one is, a torch function mode intercepts
``F.scaled_dot_product_attention``. The stock kernel still computes the output, so a recorded forward returns what an
unrecorded one returns, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from goca.backbones.turns import calling
from goca.shared import SharedChange, Undo

UNFUSED_PROCESSORS = (AttnProcessor, SlicedAttnProcessor, XFormersAttnProcessor)
NATIVE = AttentionBackendName.NATIVE
SHOWN = 3  # names in a message
MASKED_SCORE = -10000.0  # added to the score of a key that a mask hides


@dataclass(frozen=True)
class AttentionCall:
    """What one attention kernel was given: softmax(scale * q k^T + mask) v is its output.

    ``scale`` is ``None`` for the kernel's default 1 / sqrt(dim).
    """

    name: str
    query: Float[Tensor, "batch heads pixels dim"]
    key: Float[Tensor, "batch heads tokens dim"]
    value: Float[Tensor, "batch heads tokens value_dim"]
    mask: Tensor | None
    scale: float | None

    def additive_mask(self, image: int, query: int = 0) -> Float[Tensor, " tokens"] | None:
        """The mask over keys that all heads and pixels of one image share, as a number added to the scores; ``None``
        without a mask.

        Args:
            query: a row of the mask that belongs to a pixel, where it has one row per query.
        """
        if self.mask is None:
            return None
        row = self.mask[image if self.mask.shape[0] > 1 else 0, 0, query if self.mask.shape[2] > 1 else 0]
        if row.dtype == torch.bool:
            return torch.zeros(row.shape, dtype=torch.float32, device=row.device).masked_fill(~row, MASKED_SCORE)
        return row


class Recorder:
    """Context manager that hands the attention call of each run of ``modules`` to ``on_call``.

    Only calls of the thread that enters it count, and of these only those that belong to the same call of a pipeline or
    a :class:`goca.Segmenter`, see :func:`goca.backbones.turns.calling`.

    Args:
        modules: attention modules by the name they are reported under.
        on_call: receives each :class:`AttentionCall` when its module has run, so that what ``on_call`` does is neither
            intercepted nor recorded; its result is ignored. A module that failed hands over nothing.

    A module's first attention is the one over the text; those that follow, over an image prompt (IP-Adapter), are not
    handed on.

    Modules that use another attention backend run on torch's own inside the context, and compiled modules run
    uncompiled. On leaving, also after an exception and in any order with other contexts, hooks are gone and backends
    are back.

    Raises:
        RuntimeError: on leaving without an exception, when a module's attention was never seen; names the modules.
    """

    def __init__(self, modules: Mapping[str, nn.Module], on_call: Callable[[AttentionCall], object]) -> None:
        self.modules = dict(modules)
        self.on_call = on_call
        self._running: list[str] = []
        self._calls: list[AttentionCall] = []
        self._seen: set[str] = set()
        self._caller: object = None
        self._interception = _Interception(self._on_attention)
        self._cleanup = ExitStack()

    def __enter__(self) -> Recorder:
        self._seen.clear()
        self._caller = calling()
        with ExitStack() as stack:
            stack.enter_context(uncompiled())
            for name, module in self.modules.items():
                stack.enter_context(native_attention(module))
                stack.enter_context(self._announce(name, module))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running:  # an interrupt (no Exception) skips the hooks that end the interception
            self._interception.__exit__(kind, error, traceback)
            self._running.clear()
        self._calls.clear()
        self._cleanup.close()
        missing = [name for name in self.modules if name not in self._seen]
        if error is None and missing:
            more = f" and {len(missing) - SHOWN} modules more" if len(missing) > SHOWN else ""
            raise RuntimeError(
                f"No attention call was seen in {', '.join(missing[:SHOWN])}{more}; give them a processor that calls "
                "torch.nn.functional.scaled_dot_product_attention (pipeline.<model>.set_default_attn_processor()), and "
                "switch off what reuses results of earlier calls (DeepCache and the like)."
            )

    @contextmanager
    def _announce(self, name: str, module: nn.Module) -> Iterator[None]:
        def push(_module: nn.Module, _inputs: object) -> None:
            if calling() is not self._caller:
                return
            if not self._running:
                self._interception.__enter__()
            self._running.append(name)

        def pop(_module: nn.Module, _inputs: object, output: object) -> None:
            if calling() is self._caller and self._running and self._running[-1] == name:
                self._running.pop()
                if not self._running:
                    self._interception.__exit__(None, None, None)
                    calls, self._calls = self._calls, []
                    for call in calls[:1] if output is not None else ():
                        self.on_call(call)

        handles = (module.register_forward_pre_hook(push), module.register_forward_hook(pop, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _on_attention(self, *args: Any, **kwargs: Any) -> None:
        name = self._running[-1]
        self._seen.add(name)
        self._calls.append(_read_call(name, *args, **kwargs))


class _Interception(TorchFunctionMode):
    """Calls ``before`` with the arguments of every ``F.scaled_dot_product_attention`` inside the context."""

    def __init__(self, before: Callable[..., None]) -> None:
        super().__init__()
        self.before = before

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.before(*args, **kwargs)
        return func(*args, **kwargs)


def _read_call(
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Name the arguments of ``F.scaled_dot_product_attention``; refuse the kinds that the closed forms do not cover."""
    if dropout_p or is_causal or enable_gqa:
        raise RuntimeError(
            f"The attention of {name} uses dropout, a causal mask or grouped heads, which cannot be recorded; "
            "call eval() on the model or leave this layer out."
        )
    return AttentionCall(name, query, key, value, attn_mask, scale)


def _force_eager(_process: object) -> Undo | None:
    stance = torch.compiler.set_stance("force_eager")
    return None if stance.prev.stance == "force_eager" else partial(stance.__exit__, None, None, None)


def _set_fused_processor(module: Any) -> Undo | None:
    processor = getattr(module, "processor", None)
    if not isinstance(processor, UNFUSED_PROCESSORS):
        return None
    module.set_processor(AttnProcessor2_0())
    return partial(module.set_processor, processor)


def _set_native_backend(processor: Any) -> Undo | None:
    if getattr(processor, "_attention_backend", NATIVE) is NATIVE:
        return None
    own = vars(processor).get("_attention_backend", NATIVE)
    processor._attention_backend = NATIVE
    if own is NATIVE:  # of the class, not of the object
        return partial(delattr, processor, "_attention_backend")
    return partial(setattr, processor, "_attention_backend", own)


uncompiled = SharedChange(_force_eager)
"""Inside ``with uncompiled():`` the process runs what ``torch.compile`` made as if it were not compiled."""
_fused_processor = SharedChange(_set_fused_processor)
_native_backend = SharedChange(_set_native_backend)


@contextmanager
def native_attention(module: Any) -> Iterator[None]:
    """Run one diffusers attention module on torch's own fused kernel inside the context, then as it was before."""
    with _fused_processor(module), _native_backend(getattr(module, "processor", None)):
        yield


@contextmanager
def watch_output(module: nn.Module, receive: Callable[[Any], object], given: bool = False) -> Iterator[None]:
    """Hand what ``module`` returns, or its first input where ``given``, to ``receive`` inside the context; of the calls
    that :class:`Recorder` counts."""
    caller = calling()

    def hand_over(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if calling() is caller:
            receive(inputs[0] if given else output)

    handle = module.register_forward_hook(hand_over)
    try:
        yield
    finally:
        handle.remove()
