"""A string in place of a list of names means its comma-separated names, wherever goca takes names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from goca import Segmenter
from goca.export import Exporter
from goca.method import find_methods
from goca.plugins import load_plugins
from goca.segment_many import segment_many
from goca.text.prompt import mentioned_classes


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pipeline(tiny.unet.build())


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(path)
    return str(path)


def test_classes_and_background_of_a_call(segmenter: Segmenter, photo: str) -> None:
    result = segmenter(photo, "cat, grass|lawn", background="sky,dog")
    listed = segmenter(photo, ["cat", "grass|lawn"], background=["sky", "dog"])
    assert result.classes == listed.classes == ("cat", "grass", "background")
    assert np.array_equal(result.maps, listed.maps)
    assert segmenter(photo, np.array(["cat", "sky"])).classes == ("cat", "sky")


def test_layers_of_an_explanation(segmenter: Segmenter, photo: str) -> None:
    by_name, by_list = (segmenter.explain(photo, "cat,sky", layers=layers) for layers in ("0,1", ["0", "1"]))
    assert by_name.to_dict() == by_list.to_dict()


def test_one_image_and_its_formats(segmenter: Segmenter, photo: str, tmp_path: Path) -> None:
    saved = segment_many(segmenter, photo, "cat,sky", tmp_path / "out", formats="labels,json")
    assert [each.image for each in saved.images] == [photo]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"photo_labels.png", "photo.json"}
    assert len(Exporter(tmp_path / "other", "labels").formats) == 1


def test_one_text_is_encoded_as_one(segmenter: Segmenter) -> None:
    one, listed = segmenter.encode_prompts("cat, sky"), segmenter.encode_prompts(["cat, sky"])
    assert torch.equal(one.embeddings, listed.embeddings)


def test_presets_plugins_and_words_of_a_prompt() -> None:
    assert list(find_methods("paper, vanilla")) == ["paper", "vanilla"]
    assert mentioned_classes("cat|kitten,dog", "a kitten on grass") == ["cat|kitten"]
    with pytest.raises(ValueError, match="cannot load the plugin no_such_module"):
        load_plugins("no_such_module")
