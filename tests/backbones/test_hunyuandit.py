"""HunyuanDiT alone."""

import tiny
import torch
from backbones.stock import watch
from backbones.test_families import noisy, record

from goca.models import wrap
from goca.text.prompt import build_prompt

TEXTS = ["cat, grass", "a dog"]


def test_denoiser_is_told_what_the_pipeline_tells_it() -> None:
    backbone = wrap("tiny", tiny.hunyuandit.build()).backbone
    latents = noisy(backbone, [0, 1], height=32, width=48)
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    options |= {"use_resolution_binning": False, "target_size": (32, 48)}
    options |= {"height": 16 * 8, "width": 24 * 8}  # the stock pipeline counts eight pixels a latent, this VAE has two
    config = backbone.denoiser.config
    encode = backbone.pipeline.encode_prompt

    def short(*args: object, **kwargs: object) -> object:
        """The stock call counts 77 and 256 tokens; the tiny model has fewer."""
        lengths = (config.text_len, config.text_len_t5)
        return encode(*args, **{**kwargs, "max_sequence_length": lengths[int(kwargs["text_encoder_index"])]})

    backbone.pipeline.encode_prompt = short
    (stock,), _ = watch(backbone.denoiser, lambda: backbone.pipeline(prompt=TEXTS, latents=latents, **options))
    conditioning = backbone.encode_prompt(TEXTS)
    timestep = int(stock["timestep"][0])
    (ours,), _ = watch(backbone.denoiser, lambda: backbone.denoise(latents, timestep, conditioning))
    assert ours.keys() == stock.keys()
    for name in ours.keys() - {"style", "image_rotary_emb"}:
        torch.testing.assert_close(ours[name], stock[name], msg=name)
    for mine, theirs in zip(ours["image_rotary_emb"], stock["image_rotary_emb"], strict=True):
        torch.testing.assert_close(mine, theirs)


def test_words_have_tokens_of_bert_and_of_t5() -> None:
    backbone = wrap("tiny", tiny.hunyuandit.build()).backbone
    prompt = build_prompt(["cat", "palm tree"], backbone.token_spans, max_length=backbone.max_tokens)
    bert = tiny.hunyuandit.BERT_TOKENS
    assert prompt.classes[0].tokens == (1, bert)
    assert prompt.classes[1].tokens == (3, 4, bert + 2, bert + 3)


def test_the_reference_is_the_query_before_its_norm() -> None:
    backbone = wrap("tiny", tiny.hunyuandit.build()).backbone
    seen: list[torch.Tensor] = []
    reference = backbone.denoiser.get_submodule(backbone.reference_layer).attn2.to_q
    reference.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    layer = record(backbone, ["cat"], [3]).records[0, backbone.reference_layer]
    assert torch.equal(layer.reference, seen[0][0])
    assert not torch.allclose(layer.reference, layer.cross_query.transpose(0, 1).flatten(1))
