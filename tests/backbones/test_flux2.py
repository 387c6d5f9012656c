"""FLUX.2 alone: dev with Mistral and klein with Qwen."""

from __future__ import annotations

import pytest
import torch
from backbones.stock import assert_same_as_stock
from backbones.test_families import images, record
from diffusers import Flux2KleinKVPipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from tiny import flux2, flux2_klein

from goca.backbones.flux2 import Flux2Backbone
from goca.text.prompt import build_prompt

BUILD = {
    "dev": flux2.build,
    "klein": flux2_klein.build,
    "klein-kv": lambda: flux2_klein.build(kind=Flux2KleinKVPipeline),
}


def make(kind: str, reference: str = "single_transformer_blocks.1") -> Flux2Backbone:
    return Flux2Backbone(BUILD[kind](), reference)


@pytest.mark.parametrize("kind", list(BUILD))
def test_denoiser_is_called_as_the_pipeline_calls_it(kind):
    backbone = make(kind)
    stock, normalise = backbone.pipeline, backbone.pipeline.vae.bn

    def unpack(output: torch.Tensor) -> torch.Tensor:
        if kind == "dev":  # a sequence of patches; the others give latents as the VAE takes them
            return stock._unpatchify_latents(output.transpose(1, 2).unflatten(2, (8, 12)))
        return stock._unpatchify_latents(normalise(stock._patchify_latents(output)))

    given = assert_same_as_stock(
        backbone,
        ["cat", "dog, palm tree"],
        timestep=1000,  # the shift of a schedule of one step is another, except for pure noise
        pack=stock._patchify_latents,
        unpack=unpack,
        guidance_scale=None if kind == "klein-kv" else 1.0,
    )
    assert given[0]["encoder_hidden_states"].shape == (2, 512, 48)
    assert ("guidance" in given[0]) == (kind == "dev")


def test_latents_are_decoded_as_the_pipeline_decodes_its_own():
    backbone = make("dev")
    vae = backbone.pipeline.vae
    latents = backbone.encode_image(images(1))
    patches = vae.bn(backbone.pipeline._patchify_latents(vae.encode(images(1)).latent_dist.mode()))
    torch.testing.assert_close(backbone.pipeline._patchify_latents(latents), patches)


def test_features_of_a_single_block_are_the_attention_before_it_is_projected_with_the_mlp():
    backbone, attended = make("klein"), []
    block = backbone.denoiser.single_transformer_blocks[1].attn
    block.to_out.register_forward_hook(lambda _m, inputs, _out: attended.append(inputs[0]))
    layer = record(backbone, ["cat"], [3]).records[0, "single_transformer_blocks.1"]
    assert layer.reference.shape == (64, 32)
    assert torch.equal(layer.reference, attended[0][0, -64:, :32])


def test_features_of_a_double_block_are_what_its_attention_hands_on_for_the_image():
    backbone, handed = make("klein", "transformer_blocks.1"), []
    backbone.denoiser.transformer_blocks[1].attn.register_forward_hook(lambda _m, _i, output: handed.append(output))
    layer = record(backbone, ["cat"], [3]).records[0, "transformer_blocks.1"]
    assert torch.equal(layer.reference, handed[0][0][0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_words_are_found_whichever_side_is_padded(side):
    backbone = make("dev")
    backbone.pipeline.tokenizer = flux2.mistral_tokenizer(side)
    check_ids(backbone, backbone.pipeline.tokenizer)


def test_words_are_found_in_the_template_of_klein():
    backbone = make("klein")
    check_ids(backbone, backbone.tokenizer)


def test_words_are_found_through_a_processor():
    pytest.importorskip("torchvision", reason="FLUX.2 dev's processor needs torchvision, which has no CPU build here")
    from transformers import PixtralImageProcessor, PixtralProcessor

    backbone = make("dev")
    tokenizer = backbone.pipeline.tokenizer
    backbone.pipeline.tokenizer = PixtralProcessor(
        PixtralImageProcessor(), tokenizer, patch_size=8, chat_template=tokenizer.chat_template
    )
    assert backbone.tokenizer is tokenizer
    check_ids(backbone, tokenizer)


def check_ids(backbone: Flux2Backbone, tokenizer) -> None:
    """The text encoder is given the words' own ids where the prompt says they are."""
    seen = []
    backbone.pipeline.text_encoder.register_forward_pre_hook(
        lambda _m, _args, named: seen.append(named["input_ids"]), with_kwargs=True
    )
    prompt = build_prompt(["attribution", "palm tree", "user"], backbone.token_spans, max_length=backbone.max_tokens)
    backbone.encode_prompt([prompt.text])
    found = [tokenizer.decode(seen[0][0, list(concept.tokens)]).strip() for concept in prompt.classes]
    assert found == ["attribution", "palm tree", "user"]
    assert tokenizer.decode(seen[0][0, list(prompt.content_tokens)]).replace(" ", "") == "attributionpalmtreeuser"


def test_words_beyond_the_limit_are_refused():
    backbone = make("klein")
    with pytest.raises(ValueError, match="'palm' lies beyond the text encoder's limit of 512 tokens"):
        caption = "cat, " + "zz " * 200 + "palm"
        build_prompt(["cat", "palm"], backbone.token_spans, caption=caption, max_length=backbone.max_tokens)


def test_schedule_is_the_published_fit_for_many_steps():
    backbone = make("klein")
    for height, width in ((64, 64), (128, 128), (64, 256)):
        shift = backbone.mu(torch.zeros(1, 4, height, width))
        assert shift == pytest.approx(compute_empirical_mu(height * width // 4, 200), abs=1e-4)
