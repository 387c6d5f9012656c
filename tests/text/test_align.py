"""Captions become prompts; every expectation is written by hand, except the recordings of the published code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from transformers import CLIPTokenizerFast
from typer.testing import CliRunner

from goca.captioning import Aligned, align
from goca.cli import app
from goca.golden.verify import verify
from goca.text.grammar import Phrase
from goca.text.plurals import number_forms
from goca.text.published import published_tokens, read_phrases
from goca.text.spans import TokenSpans, read_offsets

GOLDEN = Path(__file__).parents[1] / "golden" / "alignment"
CLASSES = ((), ("cat",), ("person", "man"), ("dining table", "table"), ("tree",), ("stairs",), ("stair",), ("bus",))


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizerFast:
    return CLIPTokenizerFast.from_pretrained(GOLDEN / "clip_tokenizer")


@pytest.fixture
def run(tokenizer):
    def call(caption, present, classes=CLASSES, longest=77, **options) -> Aligned:
        options = {"append_missing": False, "append_background": False, **options}
        return align(
            caption,
            classes,
            present,
            lambda text: [read_offsets(tokenizer, text, longest)],
            max_length=longest,
            **options,
        )

    return call


@pytest.fixture
def words(tokenizer):
    def read(aligned: Aligned) -> dict[str, list[str]]:
        ids = tokenizer(aligned.prompt.text)["input_ids"]
        concepts = (*aligned.prompt.classes, *aligned.prompt.background)
        return {each.name: [tokenizer.decode([ids[token]]).strip() for token in each.tokens] for each in concepts}

    return read


def test_a_group_stands_for_its_class_and_the_rest_is_background(run, words):
    aligned = run("A cat, (man, clothes), brick wall.", {1, 2}, append_background=True)
    assert aligned.prompt.text == "cat, man, clothes, brick wall, background"
    assert words(aligned) == {
        "cat": ["cat"],
        "person": ["man", "clothes"],
        "brick wall": ["brick", "wall"],
        "background": ["background"],
    }
    assert aligned.indices == (1, 2) and aligned.missing == ()
    assert aligned.prompt.classes[1].words == ("man", "clothes")
    assert aligned.prompt.content_tokens == (1, 3, 5, 7, 8, 10)


def test_a_group_of_two_classes_keeps_only_these(run, words):
    aligned = run("(person, table, plate)", {2, 3})
    assert aligned.prompt.text == "person, table"
    assert words(aligned) == {"person": ["person"], "dining table": ["table"]}


def test_a_class_that_the_image_lacks_is_background(run):
    aligned = run("cat, bus", {1})
    assert aligned.indices == (1,)
    assert [phrase.name for phrase in aligned.prompt.background] == ["bus"]


def test_missing_classes_are_appended_after_the_background_in_the_data_sets_order(run):
    aligned = run("cat", {0, 7, 1, 3}, append_missing=True, append_background=True)
    assert aligned.prompt.text == "cat, background, dining table, bus"
    assert aligned.indices == (1, 3, 7) and aligned.missing == ()
    assert run("cat", {7, 1, 3}).missing == (3, 7)


def test_a_word_inside_another_is_not_found(run, words):
    found = words(run("streetlight, tree", {4}))
    assert found == {"tree": ["tree"], "streetlight": ["street", "light"]}
    assert run("streetlight, tree", {4}, rule="published").missing == (4,)


def test_all_places_of_a_repeated_phrase_count(run):
    caption = "(man, hat), cat, (man, shoes), man"
    assert run(caption, {2}).prompt.classes[0].tokens == (1, 3, 7, 9, 11)
    assert run(caption, {2}, rule="published").prompt.classes[0].tokens == (1, 3, 7, 9)


def test_plurals_name_classes_unless_another_class_is_called_that(run):
    aligned = run("people, dining tables, buses, stairs, stair", range(8))
    assert aligned.indices == (2, 3, 7, 5, 6)
    assert run("stairs", {6}).indices == (6,)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("wine glass", "wine glasses"),
        ("woman", "women"),
        ("bookshelf", "bookshelves"),
        ("city", "cities"),
        ("box", "boxes"),
        ("potato", "potatoes"),
        ("bus", "buses"),
        ("shoe", "shoes"),
        ("horse", "horses"),
        ("toy", "toys"),
        ("child", "children"),
    ],
)
def test_number_forms_go_both_ways(one, many):
    assert many in number_forms(one) and one in number_forms(many)
    assert number_forms(one)[0] == one


def test_classes_are_compared_in_composed_unicode_and_may_contain_and(run):
    classes = ((), ("cafe\u0301",), ("Salt and Pepper",), ("cat",))
    aligned = run("caf\u00e9 and cat\uff0c salt and pepper", {1, 2, 3}, classes)
    assert aligned.prompt.text == "caf\u00e9, cat, salt and pepper"
    assert aligned.indices == (1, 3, 2)


def test_where_classes_share_a_word_the_one_in_the_image_counts(run):
    classes = ((), ("earth", "ground"), ("land", "ground"))
    assert run("ground", {2}, classes).indices == (2,)
    assert run("ground", {1, 2}, classes).indices == (1,)


def test_the_word_background_stands_for_no_class(run):
    aligned = run("(background, people), cat", {1, 2}, append_background=True)
    assert aligned.prompt.text == "people, cat, background"
    assert run("cat, background", {1}, append_background=True).prompt.text == "cat, background"


def test_what_truncation_takes_away_is_missing(run):
    aligned = run("cat, wall, person, clothes", {1, 2}, longest=5)
    assert aligned.missing == (2,) and aligned.prompt.content_tokens == (1, 3)
    with pytest.raises(ValueError, match=r"nothing in the caption 'cat' lies within the text encoder's 2 tokens"):
        run("cat", {1}, longest=2)


def test_tokens_of_every_text_encoder_count(tokenizer):
    def ranges(text: str) -> list[TokenSpans]:
        return [read_offsets(tokenizer, text, 77), read_offsets(tokenizer, text, 77, start=77)]

    options = {"append_missing": False, "append_background": False, "max_length": 154}
    for rule in ("exact", "published"):
        aligned = align("wall, cat", CLASSES, {1}, ranges, rule=rule, **options)
        assert aligned.prompt.classes[0].tokens == (3, 80)


def test_a_class_that_the_data_set_does_not_have_is_refused(run):
    with pytest.raises(ValueError, match="class 255 is not in the data set, whose classes are 0 to 7"):
        run("cat", {1, 255})


@pytest.mark.parametrize(
    ("caption", "read"),
    [
        ("(cat), sofa, (dog), wall, (person, clothes), sky.", ["(cat)", "sofa", "(person, clothes)", "sky"]),
        ("(cat), sofa, (dog), wall", ["(cat)", "sofa"]),
        ("(animal) grass, sky", ["(animal)", "grass", "sky"]),
        ("sky, (animal) grass, road", ["sky"]),
        ("wall, person (background), road", ["wall"]),
        ("((person, clothes), wall, door)", ["((person, clothes)", "wall", ", door)"]),
        ("(swing, (person, hat)), tree", ["(swing, (person, hat)", ", )", "tree"]),
        ("tree, (a, (person, hat)), sky", ["tree", "(person, hat))", "sky"]),
        ("sky,, , (", ["sky"]),
        ("", []),
    ],
)
def test_the_published_reading_of_parentheses(caption, read):
    assert read_phrases(caption) == read


def test_the_published_rule_splits_a_group_by_the_classes_of_the_image(run):
    assert run("(person, cat, hat), wall", {1}, rule="published").prompt.text == "person, cat, hat, wall"
    assert run("(person, man, hat), wall", {1, 2}, rule="published").prompt.text == "person, man, wall"
    assert run("(cat), cat, (cat, hat), (cat, hat)", {1}, rule="published").prompt.text == "cat, cat, cat, hat"


def test_the_published_rule_appends_classes_in_the_order_of_a_set(run):
    classes = tuple((name,) if name else () for name in ["", *"abcdefghijklmnopqrstuvwxyz"])
    aligned = run("sky", {3, 16, 20}, classes, rule="published", append_missing=True, append_background=True)
    assert aligned.prompt.text == "sky, background, p, c, t"


def test_the_published_rule_appends_a_shared_name_again(run):
    classes = ((), ("food",), ("plate",), ("food",))
    aligned = run("plate, food", {1, 2, 3}, classes, rule="published", append_missing=True)
    assert aligned.prompt.text == "plate, food, food"
    assert aligned.indices == (2, 1) and aligned.missing == (3,)


def test_published_stop_words_are_compared_with_single_tokens():
    text = "canoe, cat"
    pieces = TokenSpans({1: (0, 1), 2: (1, 3), 3: (3, 5), 4: (5, 6), 5: (7, 10)}, 76)
    phrases = [Phrase(("canoe",), None), Phrase(("cat",), 1)]
    assert published_tokens(text, phrases, [pieces]) == [(1, 3), (5,)]


@pytest.mark.parametrize("rule", ["exact", "published"])
def test_any_caption_is_read_or_refused_in_a_sentence(run, rule):
    random = Random(5)
    pieces = ["(", ")", ",", ", ", ".", "-", " ", "cat", "person", "man", "streetlight", "tree", "stairs and", "\u732b"]
    for _ in range(300):
        caption = "".join(random.choices(pieces, k=random.choice((3, 12, 40, 300))))
        try:
            aligned = run(caption, {1, 2, 4}, rule=rule, append_missing=True, append_background=True)
        except ValueError as error:
            assert "nothing in the caption" in str(error)
            continue
        tokens = [token for each in (*aligned.prompt.classes, *aligned.prompt.background) for token in each.tokens]
        assert sorted(set(tokens)) == list(aligned.prompt.content_tokens)
        assert all(0 < token < 76 for token in tokens)
        assert sorted((*aligned.indices, *aligned.missing)) == [1, 2, 4]


@pytest.mark.parametrize(
    ("name", "own"),
    [("voc", 21), ("context", 21), ("coco-object", 9), ("coco-stuff", 47), ("cityscapes", 8), ("ade20k", 35)],
)
def test_the_published_alignments_are_reproduced(name, own):
    (check,) = verify([GOLDEN / f"{name}.json"])
    assert (check.kind, check.name, check.difference, check.passed) == ("alignment", name, 0.0, True)
    assert check.message == f"goca's own rule differs on {own} of 80"


def test_verify_names_the_first_caption_that_differs_and_takes_a_tokenizer(tmp_path):
    case = json.loads((GOLDEN / "ade20k.json").read_text())
    case["cases"] = case["cases"][13:18]
    case["cases"][1]["expected"]["background"] = []
    case["cases"][2]["expected"]["objects"]["13"] = []  # named without tokens, but it has one
    case["cases"][3]["expected"]["content"].pop()
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(case))
    words = ["verify", str(path), "--json"]
    failed = CliRunner().invoke(app, words)
    (check,) = json.loads(failed.stdout)["checks"]
    assert failed.exit_code == 1 and "name its folder with --tokenizer DIR" in check["message"]
    answer = CliRunner().invoke(app, [*words, "--tokenizer", str(GOLDEN / "clip_tokenizer")])
    (check,) = json.loads(answer.stdout)["checks"]
    assert answer.exit_code == 1 and check["difference"] == 3
    image = case["cases"][1]["image"]
    assert check["message"].startswith(f"3 of 5 captions differ, the first is {image} (background); goca's own rule")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": []}, "the file holds no cases"),
        ({"tokenizer": "bert"}, "unknown tokenizer 'bert'; only clip is supported"),
    ],
)
def test_a_file_without_cases_or_of_another_tokenizer_fails(tmp_path, change, message):
    case = json.loads((GOLDEN / "voc.json").read_text()) | change
    shutil.copytree(GOLDEN / "clip_tokenizer", tmp_path / "clip_tokenizer")
    (tmp_path / "voc.json").write_text(json.dumps(case))
    (check,) = verify([tmp_path])
    assert not check.passed and message in check.message
