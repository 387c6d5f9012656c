"""From images to records: the same whatever the batch, complete after an interruption, honest about failures."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import Toy, segmenter, task

from goca import Segmenter
from goca.datasets.base import VOID
from goca.evaluation import runner
from goca.evaluation.metrics import count_pixels, intersection_union, mean_iou, pixel_accuracy
from goca.evaluation.runner import evaluate, evaluate_indices, predict
from goca.evaluation.summary import summarise
from goca.evaluation.task import ImageResult, configuration
from goca.maps.resize import resize_maps
from goca.storage.journal import Journal


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return segmenter()


def lines(records: list[ImageResult]) -> list[dict]:
    return [record.to_json() for record in records]


def test_counts_are_those_of_the_segmenters_own_labels(model: Segmenter) -> None:
    toy, wanted = Toy(), task(Toy(), "paper", "paper", captions="classes")
    (result,) = summarise(evaluate(model, toy, wanted), wanted)["results"]
    assert len(result["sweep"]) == 9
    for entry in result["sweep"][::2]:
        counts = np.zeros((5, 5), np.int64)
        for index in range(len(toy)):
            sample = toy[index]
            target = np.where(sample.labels == VOID, 0, sample.labels)
            present = [value for value in np.unique(target).tolist() if value]
            predicted = np.ones_like(target, dtype=np.int64)
            if present:
                prompt = model.prompt([toy.classes[value][0] for value in present], background=["background"])
                method = wanted.methods["paper"]
                latents = model.encode([sample.image], as_published=True)
                ((maps,),), _ = model.score(latents, [prompt], [method])
                competing = torch.zeros(5, *target.shape)
                competing[present] = resize_maps(maps.maps, target.shape)
                competing[0] = resize_maps(maps.background[None], target.shape)[0] + entry["threshold"]
                predicted = competing.argmax(dim=0).numpy()
            counts += count_pixels(predicted, target, 5)
        assert entry["miou"] == mean_iou(intersection_union(counts), "paper")
        assert entry["pixel_accuracy"] == pixel_accuracy(counts)
    best = max(result["sweep"], key=lambda entry: entry["miou"])
    assert (result["miou"], result["threshold"]) == (best["miou"], best["threshold"])
    assert sum(cell[2] for cell in result["confusion"]) == 7 * 30 * 40


def test_records_do_not_depend_on_the_batch(model: Segmenter) -> None:
    toy = Toy(broken=(4,))
    expected = lines(evaluate(model, toy, task(toy), batch=1))
    for batch in (2, 3, 8):
        assert lines(evaluate(model, toy, task(toy), batch=batch)) == expected
    assert [entry["index"] for entry in expected] == list(range(7))
    sent = pickle.loads(pickle.dumps((toy, task(toy))))  # as to a worker, which may get any images in any order
    assert lines(evaluate_indices(model, sent[0], (6, 3), sent[1])) == [expected[3], expected[6]]
    assert lines(evaluate(model, toy, replace(task(toy), seed=1), limit=1)) != expected[:1]


def test_company_in_a_forward_changes_nothing_but_the_last_bits(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator."""
    toy = Toy()
    alone = summarise(evaluate(model, toy, task(toy)), task(toy))["results"]
    monkeypatch.setattr(runner, "forward_batch", lambda segmenter, batch: 8)
    together = summarise(evaluate(model, toy, task(toy)), task(toy))["results"]
    for one, other in zip(alone, together, strict=True):
        assert one["miou"] == pytest.approx(other["miou"], abs=2e-3)


def test_a_resumed_run_computes_only_what_is_missing(model: Segmenter, tmp_path: Path) -> None:
    toy, path = Toy(), tmp_path / "records.jsonl"
    config = configuration(model, toy, task(toy), count=7, batch=2)
    with Journal(path, config) as file:
        expected = lines(evaluate(model, toy, task(toy), batch=2, journal=file))
    written = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(written[:4]) + written[4][:30])
    seen: list[tuple[int, int]] = []
    with Journal(path, config, resume=True) as file:
        again = evaluate(model, toy, task(toy), batch=2, journal=file, progress=lambda *step: seen.append(step))
    assert lines(again) == expected
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]
    assert set(path.read_bytes().splitlines(keepends=True)) == set(written)


def test_failed_images_are_listed_and_tried_again(model: Segmenter, tmp_path: Path) -> None:
    broken, path = Toy(broken=(1,)), tmp_path / "records.jsonl"
    config = configuration(model, broken, task(broken), count=7, batch=8)
    with Journal(path, config) as file:
        answer = summarise(evaluate(model, broken, task(broken), journal=file), task(broken))
    assert answer["failures"] == [{"image": "1.png", "reason": "1.png is damaged; get it again"}]
    assert [result["images"] for result in answer["results"]] == [6, 6]
    with Journal(path, config, resume=True) as file:
        repaired = evaluate(model, Toy(), task(broken), journal=file)
    assert lines(repaired) == lines(evaluate(model, Toy(), task(broken)))


def test_one_image_whose_maps_fail_does_not_take_the_batch_along(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, score = Toy(), model.score
    poison = model.encode([toy[3].image], as_published=True)

    def spoilt(latents: torch.Tensor, *others: object) -> object:
        if any(torch.allclose(each, poison[0], atol=1e-3) for each in latents):
            raise ValueError("the attention maps are not finite")
        return score(latents, *others)

    expected = lines(evaluate(model, toy, task(toy)))
    monkeypatch.setattr(model, "score", spoilt)
    monkeypatch.setattr(runner, "forward_batch", lambda segmenter, batch: 8)
    found = lines(evaluate(model, toy, task(toy)))
    assert found[3] == {"index": 3, "name": "3.png", "error": "the attention maps are not finite"}
    assert [*found[:3], *found[4:]] == [*expected[:3], *expected[4:]]


def test_captions_decide_what_is_looked_for(model: Segmenter) -> None:
    toy = Toy(1)
    present = [int(value) for value in np.unique(toy[0].labels) if 0 < value < VOID]
    names = [toy.classes[value][0] for value in present]
    other = next(words[0] for words in toy.classes[1:] if words[0] not in names)
    captions = {"0.png": f"{names[0]}, {other}"}
    index = [words[0] for words in toy.classes[1:]].index(other) + 1

    def named(protocol: str, **changes: bool) -> tuple[set[int], set[int]]:
        wanted = task(toy, "paper", protocol, captions=captions)
        wanted = replace(wanted, protocol=replace(wanted.protocol, **changes))
        (record,) = evaluate(model, toy, wanted)
        return set(record.named), set(record.missing)

    assert named("paper") == (set(present), set())
    assert named("paper", append_missing=False) == ({present[0]}, {present[1]})
    captions["0.png"] = ""
    assert named("paper") == (set(present), set())
    assert named("standard") == (set(), set(present))
    captions["0.png"] = f"{names[0]}, {other}"
    assert named("standard") == ({present[0], index}, {present[1]})
    wanted = task(toy, "paper", "standard", captions=captions)
    answer = summarise(evaluate(model, toy, wanted), wanted)
    assert answer["missed"] == {names[1]: 1} and answer["never_named"] == [names[1]]


def test_what_cannot_be_evaluated_is_a_failure_in_a_sentence(model: Segmenter) -> None:
    plain = Toy(2, background=False)
    wanted = task(plain, "paper", "standard", captions={"0.png": "fire"})
    found = evaluate(model, plain, wanted)
    assert found[0].error == "the caption 'fire' of 0.png names no class that can be predicted; write another"
    assert found[1].error == "there is no caption for 1.png; add one to the caption file"
    few = replace(task(Toy(1)), classes=Toy.classes[:2])
    assert "0.png has the label" in str(evaluate(model, Toy(1), few)[0].error)
    answer = summarise(found, wanted)
    assert len(answer["failures"]) == 2 and answer["results"][0]["miou"] == 0


def test_an_image_without_objects_is_background_but_class_1_as_published(model: Segmenter) -> None:
    toy = Toy()
    assert (predict(model, toy[2], task(toy, protocol="standard"))["paper"].decision.labels() == 0).all()
    decision = predict(model, toy[2], task(toy))["paper"].decision
    assert (decision.labels(8) == 1).all() and (decision.labels(0) == 1).all()


def test_a_caption_of_which_nothing_is_left_is_an_image_without_a_found_class(model: Segmenter) -> None:
    captions, toy = {"0.png": "(a, the"}, Toy(1)
    wanted = task(toy, "paper", captions=captions, alignment="published")
    wanted = replace(wanted, protocol=replace(wanted.protocol, append_missing=False, append_background=False))
    (found,) = evaluate(model, toy, wanted)
    assert found.error is None and found.named == () and found.missing
    assert (predict(model, toy[0], wanted)["paper"].decision.labels() == 1).all()
    strict = replace(wanted, protocol=replace(wanted.protocol, as_published=False))
    assert "nothing in the caption" in str(evaluate(model, toy, strict)[0].error)


def test_published_images_are_resized_in_their_own_colours(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, given = Toy(1), []
    palette = toy[0].image.quantize(7)
    sample = replace(toy[0], image=palette.convert("RGB"), stored=palette)
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images, **how: given.append((images, how)) or encode(images, **how))
    for protocol in ("paper", "standard"):
        predict(model, sample, task(toy, "sharp", protocol))
    plain, mirrored = {"as_published": True}, {"mirrored": True, "as_published": True}
    assert given[:2] == [([palette], plain), ([palette], mirrored)]
    assert all(images == [sample.image] and not how["as_published"] for images, how in given[2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "the number of images is a whole number of at least 1, not 0"),
        ({"batch": 0}, "the batch is a whole number of at least 1, not 0"),
    ],
)
def test_sizes_must_make_sense(model: Segmenter, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model, Toy(), task(Toy()), **options)


def test_an_empty_data_set_is_refused(model: Segmenter) -> None:
    with pytest.raises(ValueError, match="toy holds no images; check its folder and split"):
        evaluate(model, Toy(0), task(Toy()))
