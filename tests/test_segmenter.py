"""The whole flow on tiny pipelines and on the embedded models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import tiny
import torch
from PIL import Image
from small import photo, tiny_model

from goca import Method, Segmenter
from goca.datasets.scenes import CLASS_NAMES, make_scene
from goca.evaluation.experiment import Experiment
from goca.method import PRESETS, find_method, find_methods
from goca.types import LayerRecord, Prompt

CLASSES = ["cat", "grass", "sky"]


def literal_maps(segmenter: Segmenter, image: Image.Image, prompt: Prompt) -> torch.Tensor:
    """Refined class maps by the literal implementation, from recordings of the same forward."""
    model, method = segmenter.model, segmenter.method
    backbone, spec = model.backbone, model.spec
    noisy = backbone.add_noise(segmenter.encode([image]), spec.timestep, [torch.Generator().manual_seed(0)])
    records: list[LayerRecord] = []
    backbone.record(noisy, spec.timestep, backbone.encode_prompt([prompt.text]), lambda _, r: records.append(r))
    grid = (spec.output_grid, spec.output_grid)
    heads, layers = method.heads or spec.head_rule, method.layers or spec.layer_rule
    result = reference.aggregate(records, heads, layers, grid, spec.reference_layer, spec.refine_layers)
    objects = [concept.tokens for concept in prompt.classes]
    background = [concept.tokens for concept in prompt.background]
    maps = reference.rescaled(result.token_maps, objects, background, prompt.content_tokens, method.rescale)
    return maps if result.refiner is None else reference.refined(maps, result.refiner, spec.refine_order)


@pytest.mark.parametrize("preset", ["paper", "vanilla"])
@pytest.mark.parametrize("background", [(), ("snow",)])
def test_maps_equal_the_literal_method(family: str, preset: str, background: tuple[str, ...]) -> None:
    segmenter = Segmenter(tiny_model(family), preset)
    prompt = segmenter.prompt(CLASSES, background=background)
    ((scores,),), _ = segmenter.score(segmenter.encode([photo(0)]), [prompt], [segmenter.method])
    expected = literal_maps(segmenter, photo(0), prompt)
    torch.testing.assert_close(scores.maps.double(), expected[:-1], rtol=0, atol=1e-4)
    torch.testing.assert_close(scores.background.double(), expected[-1], rtol=0, atol=1e-4)


def test_result_has_the_size_of_the_image(family: str) -> None:
    result = Segmenter(tiny_model(family))(photo(1, 61, 37), CLASSES)
    assert result.labels.shape == (37, 61)
    assert result.scores.shape == (3, 37, 61)
    assert result.classes == tuple(CLASSES)
    assert result.scores.min() >= 0 and result.scores.max() <= 1


def test_one_pixel_is_segmented(family: str) -> None:
    result = Segmenter(tiny_model(family))(Image.new("RGB", (1, 1), "red"), CLASSES)
    assert result.labels.shape == (1, 1)


def test_a_list_gives_what_its_images_give_alone(family: str) -> None:
    segmenter = Segmenter(tiny_model(family))
    images = [photo(seed) for seed in range(3)]
    together = segmenter(images, CLASSES)
    for image, result in zip(images, together, strict=True):
        np.testing.assert_allclose(result.maps, segmenter(image, CLASSES).maps, rtol=0, atol=2e-3)
    assert segmenter([], CLASSES) == []


def test_same_seed_same_result_other_seed_other_noise(family: str) -> None:
    segmenter = Segmenter(tiny_model(family))
    first, again, other = (segmenter(photo(0), CLASSES, seed=seed).maps for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-6)


def test_flipping_the_image_flips_an_average_over_both_directions() -> None:
    """With ``flip`` both directions are averaged, so an image and its mirror image get mirrored maps, noise aside."""
    model = tiny_model("dit")
    segmenter = Segmenter(replace(model, spec=replace(model.spec, timestep=0)), Method(flip=True))
    image = photo(3, 32, 32)
    maps = segmenter(image, CLASSES).maps
    mirrored = segmenter(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), CLASSES).maps
    single = Segmenter(segmenter.model, Method())(image, CLASSES).maps
    assert np.abs(maps - mirrored[..., ::-1]).mean() < 0.2 * np.abs(maps - single).mean()


def test_the_image_is_mirrored_and_not_its_latents() -> None:
    segmenter = Segmenter(tiny_model("dit"), Method(flip=True))
    image, prompt = photo(3, 32, 32), segmenter.prompt(CLASSES)
    latents, mirrored = segmenter.encode([image]), segmenter.encode([image], mirrored=True)
    assert torch.equal(mirrored, segmenter.encode([image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]))
    assert (mirrored - latents.flip(-1)).abs().max() > 1e-3
    views = [segmenter.score(each, [prompt], [Method()])[0][0][0].maps for each in (latents, mirrored)]
    expected = (views[0] + views[1].flip(-1)) / 2
    (found,) = segmenter.score(latents, [prompt], [segmenter.method], mirrored=mirrored)[0][0]
    torch.testing.assert_close(found.maps, expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"give their latents, encode\(images, mirrored=True\)"):
        segmenter.score(latents, [prompt], [segmenter.method])
    with pytest.warns(DeprecationWarning, match="passes.* is called .*views"):
        assert segmenter.passes(segmenter.method) == list(segmenter.resolve().views)


def test_views_surround_the_models_timestep() -> None:
    segmenter = Segmenter(tiny_model("dit"))
    assert segmenter.resolve(Method()).views == ((100, False),)
    assert segmenter.resolve(Method(timesteps=3)).views == ((100, False), (150, False), (67, False))
    assert segmenter.resolve(Method(flip=True)).views == ((100, False), (100, True))


def test_methods_share_a_recording_and_get_what_they_get_alone(family: str) -> None:
    segmenter = Segmenter(tiny_model(family))
    latents, mirrored = segmenter.encode([photo(0)]), segmenter.encode([photo(0)], mirrored=True)
    prompt = segmenter.prompt(CLASSES)
    methods = [PRESETS["paper"], PRESETS["vanilla"], PRESETS["plus"]]
    together, _ = segmenter.score(latents, [prompt], methods, mirrored=mirrored)
    for method, (maps,) in zip(methods, together, strict=True):
        ((alone,),), _ = segmenter.score(latents, [prompt], [method], mirrored=mirrored)
        torch.testing.assert_close(maps.maps, alone.maps, atol=1e-6, rtol=0)


def test_background_appears_when_it_is_asked_for(family: str) -> None:
    segmenter = Segmenter(tiny_model(family))
    assert segmenter(photo(0), CLASSES, background=["snow"]).classes[-1] == "background"
    result = segmenter(photo(0), CLASSES, threshold=1.0)
    assert result.classes[-1] == "background"
    assert (result.labels == 3).mean() > 0.9  # all but the pixels where a class has the highest score


def test_manual_layers_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"no hand-picked layers .*'manual'.*take the preset 'paper' or 'vanilla'"):
        Segmenter(tiny_model("dit"), "manual")


def test_unknown_presets_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown preset 'best'; choose one of paper, plus, sharp, vanilla, manual"):
        find_method("best")


def test_one_class_without_background_says_that_it_gets_everything(family: str) -> None:
    result = Segmenter(tiny_model(family))(photo(0), ["cat"])
    assert (result.labels == 0).all()
    assert "--background" in result.notes[0]
    assert Segmenter(tiny_model(family))(photo(0), ["cat"], background=["snow"]).notes == ()


@pytest.fixture(scope="module", params=["scenes-dit", "scenes-unet", "scenes-mmdit"])
def embedded(request: pytest.FixtureRequest) -> Segmenter:
    return Segmenter.from_pretrained(request.param)


@pytest.mark.slow
def test_embedded_models_segment_scenes_well_beyond_vanilla(embedded: Segmenter) -> None:
    results = Experiment.open("scenes", limit=16, seed=41).run(embedded, find_methods(["vanilla", "paper"]))["results"]
    vanilla, paper = (result["miou"] for result in results)
    assert paper > 0.6
    assert paper > vanilla


def test_embedded_models_name_the_words_they_know(embedded: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"never seen the word 'zebra'; it knows .*penguin.*--model sd15"):
        embedded(photo(0), ["zebra", "sky"])


def test_more_classes_than_the_text_encoder_takes(embedded: Segmenter) -> None:
    names = list(CLASS_NAMES[:17])
    with pytest.raises(ValueError, match=r"'[a-z]+' lies beyond the text encoder's limit of (20|32) tokens"):
        embedded(photo(0), names)


@pytest.mark.slow
def test_a_photograph_is_segmented_with_a_warning_and_a_scene_without(embedded: Segmenter) -> None:
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as stream:
        picture = Image.open(stream).convert("RGB")
    result = embedded(picture, ["wall", "dog"])
    assert result.labels.shape == (picture.height, picture.width)
    assert "--model sd15" in result.notes[0]
    scene = make_scene(51, 0)
    assert embedded(scene.image, scene.classes).notes == ()


@pytest.mark.slow
def test_saved_files_reproduce_the_result(embedded: Segmenter, tmp_path: Path) -> None:
    scene = make_scene(52, 0)
    scene.image.resize((200, 120)).save(tmp_path / "scene.png")
    result = embedded(tmp_path / "scene.png", scene.classes)
    files = result.save(tmp_path / "out", "scene")
    with Image.open(files["labels"]) as labels:
        assert np.array_equal(np.asarray(labels), result.labels)


def test_fast_mode_leaves_the_denoiser_after_the_last_layer_it_needs(family: str) -> None:
    model = tiny_model(family)
    fast, layers = Segmenter(model, "paper", fast=True), model.backbone.layers
    needed = max(layers.index(layer) for layer in fast.aggregator(fast.resolve(), (16, 16)).layers)
    seen: list[str] = []
    handles = [
        model.backbone.denoiser.get_submodule(layer).register_forward_pre_hook(lambda *_, name=layer: seen.append(name))
        for layer in layers
    ]
    fast(photo(0), CLASSES)
    for handle in handles:
        handle.remove()
    assert seen == list(layers[: needed + 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scenes-dit", "scenes-unet", "scenes-mmdit"])
def test_fast_mode_agrees_with_the_exact_one(name: str) -> None:
    exact = Segmenter.from_pretrained(name, method="paper")
    fast = Segmenter(exact.model, "paper", fast=True)
    scenes = [make_scene(21, index) for index in range(4)]
    agreement = [(exact(s.image, s.classes).labels == fast(s.image, s.classes).labels).mean() for s in scenes]
    assert np.mean(agreement) > 0.9


def test_a_prompt_is_encoded_once() -> None:
    segmenter = Segmenter(tiny_model("dit"))
    calls: list[object] = []
    segmenter.model.pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    first = segmenter(photo(0), CLASSES)
    again = segmenter(photo(0), CLASSES)
    segmenter(photo(0), ["dog"])
    assert len(calls) == 2
    assert np.array_equal(first.maps, again.maps)


def test_another_size_and_the_images_own_shape(family: str) -> None:
    model = tiny_model(family)
    seen: list[tuple[int, ...]] = []
    model.pipeline.vae.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    wide = Segmenter(model, size=64, keep_aspect=True)([photo(0, 80, 40), photo(1, 40, 80)], CLASSES)
    assert [shape[-2] < shape[-1] for shape in seen] == [True, False]
    assert all(32**2 < shape[-2] * shape[-1] < 80**2 for shape in seen)
    assert [result.labels.shape for result in wide] == [(40, 80), (80, 40)]
    assert wide[0].maps.shape[1] < wide[0].maps.shape[2]


def test_a_size_that_the_vae_cannot_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="tiny takes sizes that are multiples of 4, not 33"):
        Segmenter(tiny_model("dit"), size=33)


def test_a_pipeline_in_memory_is_taken_as_it_is() -> None:
    pipeline = tiny.unet.build()
    segmenter = Segmenter.from_pipeline(pipeline, "paper")
    assert segmenter.model.pipeline is pipeline
    assert segmenter.model.spec.name == "StableDiffusionPipeline"
    assert segmenter(photo(0), CLASSES).labels.shape == (30, 50)


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter(tiny_model("dit"))

    def fail(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(segmenter, "encode", fail)
    with pytest.raises(MemoryError, match="too little memory for tiny; take --dtype bfloat16, --offload model"):
        segmenter(photo(0), CLASSES)
