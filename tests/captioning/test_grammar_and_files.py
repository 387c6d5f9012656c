"""The captions' grammar, strict and forgiving, and caption files."""

from __future__ import annotations

import json

import pytest

from goca.captioning import check_captions, load_captions, save_captions
from goca.text.grammar import check_answer, parse


@pytest.mark.parametrize(
    ("caption", "groups"),
    [
        ("(Person, clothes), chair, store.", [("person", "clothes"), ("chair",), ("store",)]),
        ("a cat, the  grass and an, and a dog", [("cat",), ("grass",), ("dog",)]),
        ("cat and dog, sand", [("cat",), ("dog",), ("sand",)]),
        ("(man and a hat, shoes), sky and wall (brick)", [("man", "hat", "shoes"), ("sky",), ("wall", "brick")]),
        (
            "\u732b\uff0c\u8349\u5730\u3001\uff08\u4eba\uff0c\u5e3d\u5b50\uff09\u3002",
            [("\u732b",), ("\u8349\u5730",), ("\u4eba", "\u5e3d\u5b50")],
        ),
        ("\u0642\u0637\u0629\u060c \u0639\u0634\u0628", [("\u0642\u0637\u0629",), ("\u0639\u0634\u0628",)]),
        ("cafe\u0301, Caf\u00e9", [("caf\u00e9",), ("caf\u00e9",)]),
        ("cat, -, !?, ..., t-shirt", [("cat",), ("t-shirt",)]),
        ("wall (brick), sky", [("wall", "brick"), ("sky",)]),
        ("(cat, sofa", [("cat", "sofa")]),
        ("cat), sofa,, ()", [("cat",), ("sofa",)]),
        (" . ", []),
    ],
)
def test_every_caption_can_be_read(caption, groups):
    assert parse(caption) == groups


def test_a_name_with_and_in_it_is_one_noun():
    names = {"salt and pepper"}
    assert parse("Salt and pepper, cat and dog", names=names) == [("salt and pepper",), ("cat",), ("dog",)]


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("(Person, clothes), chair, chair, (cat).\n", "(person, clothes), chair, cat"),
        ("T-shirt, crow's nest, (car,wheel),road", "t-shirt, crow's nest, (car, wheel), road"),
        ("a cat and a dog", "cat, dog"),
        ("\u092c\u093f\u0932\u094d\u0932\u0940\uff0c\u732b\u3002", "\u092c\u093f\u0932\u094d\u0932\u0940, \u732b"),
    ],
)
def test_answers_are_written_plainly(answer, caption):
    assert check_answer(answer) == caption
    assert check_answer(caption) == caption


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("  ", "is empty"),
        (",,", "names nothing"),
        ("cat\ndog", "several lines"),
        ("(cat, (dog)), sky", "nested, empty or not closed"),
        ("(cat, dog", "nested, empty or not closed"),
        ("cat (ear), sky", "lacks a comma"),
        ("(cat, ear) sky", "lacks a comma"),
        ("There is a cat on the grass", "'there is a cat on the grass', which is not a noun"),
        ("cat: 3", "'cat: 3', which is not a noun"),
        (", ".join(f"thing{i}" for i in range(61)), "more than 60 things"),
    ],
)
def test_other_answers_are_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        check_answer(answer)


def test_files_come_back_as_written(tmp_path):
    captions = {"b.jpg": "cat, Bäume", "a.jpg": "(person, clothes), sky."}
    save_captions(tmp_path / "new" / "c.json", captions)
    assert json.loads((tmp_path / "new" / "c.json").read_text()) == {k: {"caption": v} for k, v in captions.items()}
    assert list(load_captions(tmp_path / "new" / "c.json").items()) == list(captions.items())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.jpg": {"caption": "cat', "is damaged or no JSON"),
        ("[1]", "holds no captions; it must look like"),
        ('{"a.jpg": {"caption": "x"}, "b.jpg": "cat"}', "no text under \"caption\" for 'b.jpg'"),
        ('{"a.jpg": {"caption": null}}', "no text under \"caption\" for 'a.jpg'"),
        (b"\xff\xfe{", "is damaged or no JSON"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        load_captions(path)


def test_captions_and_images_that_do_not_fit_are_listed():
    found = check_captions({"a.jpg": "cat", "z.jpg": "dog"}, ["b.jpg", "a.jpg", "c.jpg"])
    assert found.unknown == ("z.jpg",) and found.missing == ("b.jpg", "c.jpg")
