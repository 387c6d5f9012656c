from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch.overrides import _get_current_function_mode_stack

from goca.backbones.hooks import AttentionCall, Recorder


def attention(seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    return Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4).eval()


def hooks(module: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, 8, generator=generator), torch.randn(2, 3, 6, generator=generator)


@torch.no_grad()
def test_recorded_softmax_times_values_is_what_the_kernel_returned(inputs):
    module, calls, kernel_outputs = attention(), [], []
    module.to_out[0].register_forward_pre_hook(lambda _module, args: kernel_outputs.append(args[0]))
    with Recorder({"layer": module}, calls.append):
        module(*inputs)

    (call,) = calls
    assert isinstance(call, AttentionCall) and call.name == "layer"
    probabilities = (call.query @ call.key.mT / 4**0.5).softmax(-1)
    output = (probabilities @ call.value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(output, kernel_outputs[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_output_is_unchanged_bit_for_bit_and_no_hook_stays(inputs):
    module = attention()
    expected, before = module(*inputs), hooks(module)
    with Recorder({"layer": module}, lambda call: None):
        assert hooks(module) == before + 2
        assert torch.equal(module(*inputs), expected)
    assert hooks(module) == before

    seen = []
    recorder = Recorder({"layer": module}, seen.append)
    module(*inputs)
    assert not seen and not recorder._running


@torch.no_grad()
def test_exception_in_the_forward_leaves_no_trace(inputs):
    module, calls = attention(), []
    module.to_out[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("broken")))
    before, recorder = hooks(module), Recorder({"layer": module}, calls.append)
    with pytest.raises(KeyError, match="broken"), recorder:
        module(*inputs)
    assert hooks(module) == before and not recorder._running
    F.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 2)] * 3)
    assert not calls  # a module that failed hands over nothing


@torch.no_grad()
def test_interrupt_in_the_forward_leaves_no_trace(inputs):
    module, calls = attention(), []
    module.to_out[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    before, modes = hooks(module), _get_current_function_mode_stack()
    with pytest.raises(KeyboardInterrupt), Recorder({"layer": module}, calls.append):
        module(*inputs)
    assert hooks(module) == before and _get_current_function_mode_stack() == modes


@torch.no_grad()
def test_unseen_layers_are_named(inputs):
    module = attention()
    modules = {"first": module, "second": attention(), "third": attention()}
    with (
        pytest.raises(RuntimeError, match=r"seen in second, third; give them a processor"),
        Recorder(modules, lambda call: None),
    ):
        module(*inputs)


@torch.no_grad()
def test_attention_computed_by_the_callback_is_not_recorded(inputs):
    module, names = attention(), []

    def on_call(call: AttentionCall) -> None:
        names.append(call.name)
        assert not _get_current_function_mode_stack()
        F.scaled_dot_product_attention(call.query, call.key, call.value)

    with Recorder({"layer": module}, on_call):
        module(*inputs)
        F.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 2)] * 3)
    assert names == ["layer"]


@torch.no_grad()
def test_unfused_processor_is_replaced_for_the_pass_only(inputs):
    module, calls = attention(), []
    unfused = AttnProcessor()
    module.set_processor(unfused)
    with Recorder({"layer": module}, calls.append):
        assert isinstance(module.processor, AttnProcessor2_0)
        module(*inputs)
    assert module.processor is unfused and len(calls) == 1


@torch.no_grad()
def test_other_backend_is_set_to_native_for_the_pass_only(inputs):
    module = attention()
    module.processor._attention_backend = AttentionBackendName.FLASH
    with pytest.raises(ZeroDivisionError), Recorder({"layer": module}, lambda call: 1 / 0):
        assert module.processor._attention_backend is AttentionBackendName.NATIVE
        module(*inputs)
    assert module.processor._attention_backend is AttentionBackendName.FLASH


@torch.no_grad()
def test_compiled_modules_run_uncompiled_inside(inputs):
    module, calls, compiled = attention(), [], []

    def backend(graph, _inputs):
        compiled.append(graph)
        return graph.forward

    expected = module(*inputs)
    module.compile(backend=backend)
    assert torch.equal(module(*inputs), expected) and compiled
    with Recorder({"layer": module}, calls.append):
        assert torch.equal(module(*inputs), expected)
    assert len(calls) == 1
    module(*inputs)
    assert len(calls) == 1
    torch.compiler.reset()


@torch.no_grad()
def test_causal_attention_is_refused():
    class Causal(torch.nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    module = Causal()
    with (
        pytest.raises(RuntimeError, match="attention of layer uses dropout, a causal mask"),
        Recorder({"layer": module}, lambda call: None),
    ):
        module(torch.ones(1, 1, 2, 2))
