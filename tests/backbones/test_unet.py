"""UNets alone."""

import tiny
import torch
from backbones.test_families import generators, images, record

from goca.backbones.unet import UNetBackbone

REFERENCE = "up_blocks.1.attentions.1.transformer_blocks.0"


def backbone() -> UNetBackbone:
    return UNetBackbone(tiny.unet.build(), REFERENCE)


def test_forward_order_is_down_mid_up():
    stages = [layer.split(".transformer")[0] for layer in backbone().layers]
    assert stages == [
        "down_blocks.0.attentions.0",
        "down_blocks.1.attentions.0",
        "mid_block.attentions.0",
        "up_blocks.1.attentions.0",
        "up_blocks.1.attentions.1",
        "up_blocks.2.attentions.0",
        "up_blocks.2.attentions.1",
    ]


def test_grids_shrink_and_grow():
    recording = record(backbone(), ["cat"], [3], height=32, width=48)
    grids = [recording.records[0, name].grid for name in backbone().layers]
    assert grids == [(16, 24), (8, 12), (4, 6), (8, 12), (8, 12), (16, 24), (16, 24)]


def test_odd_latent_sizes_round_as_the_model_does():
    recording = record(backbone(), ["cat"], [3], height=36, width=30)
    grids = [recording.records[0, name].grid for name in backbone().layers]
    assert grids == [(18, 15), (9, 8), (5, 4), (9, 8), (9, 8), (18, 15), (18, 15)]


def test_noising_follows_the_training_schedule():
    unet, latents = backbone(), torch.full((1, 4, 16, 16), 2.0)
    noise = torch.randn(4, 16, 16, generator=generators(7)[0])
    kept = unet.pipeline.scheduler.alphas_cumprod[100]
    expected = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    torch.testing.assert_close(unet.add_noise(latents, 100, generators(7)), expected)


def test_encoded_image_is_the_scaled_mode():
    unet = backbone()
    vae = unet.pipeline.vae
    vae.register_to_config(shift_factor=0.25)
    mode = vae.encode(images(3)).latent_dist.mean
    torch.testing.assert_close(unet.encode_image(images(3)), (mode - 0.25) * vae.config.scaling_factor)


def test_prompts_are_encoded_as_the_pipeline_does():
    unet, texts = backbone(), ["cat", "a dog, grass"]
    ids = unet.tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    conditioning = unet.encode_prompt(texts)
    torch.testing.assert_close(conditioning.embeddings, unet.pipeline.text_encoder(ids.input_ids)[0])
    assert conditioning.mask is None
