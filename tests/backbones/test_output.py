"""The sum of the heads as the model itself computes it, recorded beside its attention."""

from dataclasses import replace

import pytest
import torch

from goca.maps.heads import aggregate_heads
from goca.models import load


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_models_own_sum_of_heads_is_what_the_heads_give(dtype):
    backbone = load("scenes-unet", dtype=dtype).backbone
    records = []
    with torch.inference_mode():
        latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3)).to(dtype)
        backbone.record(latents, 100, backbone.encode_prompt(["a red boat", "a tree"]), lambda _, r: records.append(r))
    for record in records:
        if dtype != torch.float32:
            assert record.output is None
            continue
        anew = replace(record, output=None)
        scale = record.cross_query.shape[-1] ** -0.5
        probabilities = (record.cross_query @ record.cross_key.transpose(1, 2) * scale).softmax(dim=-1)
        heads = (probabilities @ record.cross_value).transpose(0, 1).flatten(1)
        torch.testing.assert_close(record.output, heads @ record.projection.weight.T, rtol=1e-4, atol=1e-5)
        for paired in (False, True):
            torch.testing.assert_close(
                aggregate_heads(record, paired=paired), aggregate_heads(anew, paired=paired), rtol=1e-3, atol=1e-5
            )
