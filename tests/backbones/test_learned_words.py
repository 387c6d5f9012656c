"""Words that textual inversion adds: several tokens each, spelled as they were learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from goca import Segmenter
from goca.guidance.semantic import SemanticGuidance

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


def learn(pipeline: Any, word: str, vectors: int = 3, second: bool = False) -> None:
    """Add a word of random vectors to one of the encoders."""
    encoder = pipeline.text_encoder_2 if second else pipeline.text_encoder
    tokenizer = pipeline.tokenizer_2 if second else pipeline.tokenizer
    embedding = torch.randn(vectors, encoder.config.hidden_size, generator=torch.manual_seed(0))
    pipeline.load_textual_inversion(embedding, token=word, tokenizer=tokenizer, text_encoder=encoder)


def found(pipeline: Any, classes: list[str], **options: Any) -> dict[str, list[str]]:
    """Of each class, the tokens that the text encoder gets."""
    prompt = Segmenter.from_pipeline(pipeline).prompt(classes, **options)
    sent = pipeline.maybe_convert_prompt(prompt.text, pipeline.tokenizer)
    tokens = pipeline.tokenizer.convert_ids_to_tokens(pipeline.tokenizer(sent).input_ids)
    return {each.name: [tokens[place] for place in each.tokens] for each in prompt.classes}


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_every_vector_of_a_word_is_its_token_and_the_words_behind_keep_theirs(vectors: int) -> None:
    pipeline = tiny.unet.build()
    learn(pipeline, "<my-cat>", vectors)
    own = ["<my-cat>", *(f"<my-cat>_{index}" for index in range(1, vectors))]
    expected = {"<my-cat>": own, "grass": ["grass</w>"]}
    assert found(pipeline, ["<my-cat>", "grass"]) == expected
    assert found(pipeline, ["<my-cat>", "grass"], caption="the sky, <my-cat> and grass, dog") == expected
    prompt = Segmenter.from_pipeline(pipeline).prompt(["<my-cat>", "grass"])
    assert len(prompt.content_tokens) == vectors + 1


def test_two_learned_words_of_which_one_begins_like_the_other() -> None:
    pipeline = tiny.unet.build()
    learn(pipeline, "<cat>", 2)
    learn(pipeline, "<cat-toy>", 2)
    expected = {"<cat-toy>": ["<cat-toy>", "<cat-toy>_1"], "<cat>": ["<cat>", "<cat>_1"], "sky": ["sky</w>"]}
    assert found(pipeline, ["<cat-toy>", "<cat>", "sky"]) == expected


@pytest.mark.parametrize("word", ["<My-Cat>", "SKS"])
def test_a_word_keeps_the_spelling_in_which_it_was_learned(word: str) -> None:
    """T5's tokenizer tells capitals, and prompts are in small letters."""
    pipeline = tiny.flux.build()
    learn(pipeline, word, 2, second=True)
    given: list[torch.Tensor] = []
    hook = pipeline.text_encoder_2.register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    segmenter = Segmenter.from_pipeline(pipeline)
    prompt = segmenter.prompt(f"{word.lower()}, grass")
    segmenter.encode_prompts([prompt.text])
    hook.remove()
    tokens = pipeline.tokenizer_2.convert_ids_to_tokens(given[0][0].tolist())
    got = {each.name: [tokens[place] for place in each.tokens] for each in prompt.classes}
    assert got[word.lower()] == [word, f"{word}_1"] and got["grass"] == ["\u2581grass"]
    assert segmenter(IMAGE, [word, "grass"]).classes == (word, "grass")


def test_sdxl_needs_a_word_in_both_of_its_encoders() -> None:
    pipeline = tiny.sdxl.build()
    pipeline.tokenizer_2 = tiny.parts.clip_tokenizer()
    learn(pipeline, "<my-cat>")
    segmenter = Segmenter.from_pipeline(pipeline)
    with pytest.raises(ValueError, match=r"make different tokens of '<my-cat>, sky'; load learned words into both"):
        segmenter.prompt(["<my-cat>", "sky"])
    assert segmenter.prompt(["cat", "sky"]).text == "cat, sky"
    learn(pipeline, "<my-cat>", second=True)
    assert [len(each.tokens) for each in segmenter.prompt(["<my-cat>", "sky"]).classes] == [3, 1]


def test_a_pipeline_that_expands_prompts_is_refused() -> None:
    pipeline = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(pipeline)
    pipeline.maybe_convert_prompt = lambda text, tokenizer: f"a beautiful {text}"
    with pytest.raises(ValueError, match="gives its text encoder 'a beautiful cat, sky' in place of 'cat, sky'"):
        segmenter.prompt(["cat", "sky"])


def test_guidance_finds_learned_words() -> None:
    pipeline = tiny.unet.build()
    learn(pipeline, "<my-cat>", 2)
    options = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent"}
    with SemanticGuidance(pipeline, segment=True, trace=True) as guidance:
        pipeline("<my-cat>, grass", **options)
        words = guidance.region_words()
    assert words == ("", "<my-cat>", "<my-cat>", ",", "grass")


def expanding(pipeline: Any, change: Any) -> None:
    """Let a pipeline rewrite the texts it encodes."""
    encode = pipeline.encode_prompt

    def rewritten(prompt: list[str], *args: Any, **options: Any) -> Any:
        return encode([change(text) for text in prompt], *args, **options)

    pipeline.encode_prompt = rewritten


@pytest.mark.parametrize("change", ["a beautiful {}", "{}, dog", "grass, {}"])
def test_a_text_that_the_pipeline_rewrites_is_refused(family: str, change: str) -> None:
    pipeline = tiny.FAMILIES[family].build()
    if family in ("kolors", "hunyuandit") and change != "a beautiful {}":
        pytest.skip("one change is enough")
    segmenter = Segmenter.from_pipeline(pipeline)
    segmenter.encode_prompts(["cat, grass", "sky"])
    if family == "kolors":
        return  # its tokenizer reports no ids
    expanding(pipeline, change.format)
    with pytest.raises(ValueError, match="gives its text encoder other words than 'cat, sky'"):
        segmenter.encode_prompts(["cat, sky"])


def test_texts_beyond_the_limit_are_encoded(family: str) -> None:
    segmenter = Segmenter.from_pipeline(tiny.FAMILIES[family].build())
    segmenter.encode_prompts([", ".join(["cat"] * 700)])
