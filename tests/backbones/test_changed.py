"""A pipeline that is changed between two calls: the next call is as of a new segmenter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig, inject_adapter_in_model

from goca import Segmenter
from goca.backbones.fingerprint import text_fingerprint

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
CLASSES = ["cat", "grass"]
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


def embeddings(pipeline: Any) -> torch.nn.Embedding:
    return pipeline.text_encoder.get_input_embeddings()


def shuffle_weights(pipeline: Any) -> None:
    with torch.no_grad():
        for each in pipeline.text_encoder.parameters():
            each.mul_(-1)


def edit_one_word(pipeline: Any) -> None:
    """As training one word does, past autograd's notice."""
    token = pipeline.tokenizer.convert_tokens_to_ids("cat</w>")
    embeddings(pipeline).weight.data[token] = 3.0


def load_other_weights(pipeline: Any) -> None:
    pipeline.text_encoder.load_state_dict(tiny.unet.build(seed=5).text_encoder.state_dict())


def replace_encoder(pipeline: Any) -> None:
    pipeline.text_encoder = tiny.unet.build(seed=5).text_encoder


def add_lora(pipeline: Any) -> None:
    torch.manual_seed(1)
    inject_adapter_in_model(LORA, pipeline.text_encoder)


def weaken_lora(pipeline: Any) -> None:
    for module in pipeline.text_encoder.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", 0.1)


def switch_lora_off(pipeline: Any) -> None:
    for module in pipeline.text_encoder.modules():
        if hasattr(module, "set_scale"):
            module.enable_adapters(False)


def learn(value: float) -> Callable[[Any], None]:
    def change(pipeline: Any) -> None:
        if "cat-toy" in pipeline.tokenizer.get_added_vocab():
            pipeline.unload_textual_inversion("cat-toy")
        vector = torch.full((1, pipeline.text_encoder.config.hidden_size), value)
        pipeline.load_textual_inversion(vector, token="cat-toy")

    return change


def to_double(pipeline: Any) -> None:
    pipeline.to(torch.float64)


def replace_scheduler(pipeline: Any) -> None:
    pipeline.scheduler = DDIMScheduler(beta_start=0.01, beta_end=0.02, clip_sample=False)


def change_scheduler(pipeline: Any) -> None:
    pipeline.scheduler.register_to_config(beta_schedule="linear")


CHANGES: list[tuple[Callable[[Any], None], ...]] = [
    (shuffle_weights,),
    (edit_one_word,),
    (load_other_weights,),
    (replace_encoder,),
    (add_lora,),
    (add_lora, weaken_lora),
    (add_lora, switch_lora_off),
    (to_double,),
    (replace_scheduler,),
    (change_scheduler,),
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "-".join(each.__name__ for each in changes))
def test_the_next_call_is_as_of_a_new_segmenter(changes: tuple[Callable[[Any], None], ...]) -> None:
    pipeline = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(pipeline)
    maps = segmenter(IMAGE, CLASSES).maps
    for change in changes:
        change(pipeline)
        pipeline.text_encoder.eval()
        after = segmenter(IMAGE, CLASSES).maps
        assert np.array_equal(after, Segmenter.from_pipeline(pipeline)(IMAGE, CLASSES).maps)
        assert not np.array_equal(after, maps)
        maps = after


def test_a_learned_word_that_is_learned_anew() -> None:
    pipeline = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(pipeline)
    results = [segmenter(IMAGE, ["cat-toy", "grass"]).maps]
    for value in (1.0, -2.0):
        learn(value)(pipeline)
        results.append(segmenter(IMAGE, ["cat-toy", "grass"]).maps)
        fresh = Segmenter.from_pipeline(pipeline)(IMAGE, ["cat-toy", "grass"]).maps
        assert np.array_equal(results[-1], fresh) and not np.array_equal(results[-1], results[-2])


def test_what_stays_as_it_was_is_not_encoded_again(family: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    segmenter = Segmenter.from_pipeline(pipeline)
    first = segmenter.encode_prompts(["cat, grass"])
    assert segmenter.encode_prompts(["cat, grass"]) is first
    assert segmenter.encode_prompts(["grass"]) is not first


def test_weights_that_cannot_be_read_are_encoded_every_time() -> None:
    pipeline = tiny.unet.build()
    here = torch.device("cpu")
    segmenter = Segmenter.from_pipeline(pipeline)
    pipeline.enable_group_offload(here, here, offload_type="leaf_level")
    assert text_fingerprint(pipeline) is None
    first = segmenter.encode_prompts(["cat, grass"])
    again = segmenter.encode_prompts(["cat, grass"])
    assert again is not first and torch.equal(again.embeddings, first.embeddings)


def test_sums_tell_any_change_of_a_number_of_any_type() -> None:
    pipeline = tiny.unet.build()
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        pipeline.text_encoder.to(dtype)
        seen = {text_fingerprint(pipeline)}
        for each in pipeline.text_encoder.parameters():
            each.data.view(-1)[-1] += 1
            seen.add(text_fingerprint(pipeline))
        assert len(seen) == 1 + len(list(pipeline.text_encoder.parameters()))
