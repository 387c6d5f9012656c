from __future__ import annotations

import pytest
from tiny import parts

from goca.text.prompt import build_prompt
from goca.text.spans import find_words, read_offsets, read_template


@pytest.fixture(params=["clip", "t5"])
def tokenizer(request):
    return parts.clip_tokenizer() if request.param == "clip" else parts.t5_tokenizer()


def build(classes, tokenizer, **options):
    longest = options.pop("max_length", 64)
    return build_prompt(classes, lambda text: [read_offsets(tokenizer, text, longest)], max_length=longest, **options)


def pieces(prompt, tokenizer, positions) -> list[str]:
    """Text of the tokens at some positions, without the signs for word boundaries."""
    ids = tokenizer(prompt.text)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens([ids[position] for position in positions])
    return [token.replace("</w>", "").replace("\u2581", "") for token in tokens]


def test_text_is_all_synonyms_and_the_background(tokenizer):
    prompt = build(["Cat|kitten", "palm tree"], tokenizer, background=["sky"])
    assert prompt.text == "cat, kitten, palm tree, sky"
    assert [concept.name for concept in prompt.classes] == ["Cat", "palm tree"]
    assert prompt.classes[0].words == ("cat", "kitten")
    found = ["".join(pieces(prompt, tokenizer, each.tokens)) for each in prompt.classes]
    assert found == ["catkitten", "palmtree"]
    assert pieces(prompt, tokenizer, prompt.background[0].tokens) == ["sky"]


def test_content_is_everything_but_special_tokens_articles_and_punctuation(tokenizer):
    prompt = build(["cat"], tokenizer, caption="A cat and the dog, sky-grass.")
    assert "".join(pieces(prompt, tokenizer, prompt.content_tokens)) == "catdogskygrass"


def test_letters_that_spell_an_article_inside_a_word_are_content(tokenizer):
    prompt = build(["zab"], tokenizer)
    assert "".join(pieces(prompt, tokenizer, prompt.content_tokens)) == "zab"
    assert prompt.classes[0].tokens == prompt.content_tokens


def test_a_word_inside_another_is_not_found(tokenizer):
    prompt = build(["car"], tokenizer, caption="carpet, car, scar")
    assert pieces(prompt, tokenizer, prompt.classes[0].tokens) == ["car"]
    assert len(tokenizer.tokenize(" carpet")) > 1
    with pytest.raises(ValueError, match="does not mention 'car'"):
        build(["car"], tokenizer, caption="carpet and scar")


def test_plurals_and_hyphenated_words_are_other_words(tokenizer):
    with pytest.raises(ValueError, match="does not mention 'cat'"):
        build(["cat"], tokenizer, caption="cats, cat-tree")
    prompt = build(["cat|cats"], tokenizer, caption="cats")
    assert "".join(pieces(prompt, tokenizer, prompt.classes[0].tokens)) == "cats"


def test_every_occurrence_of_every_synonym_counts(tokenizer):
    prompt = build(["cat|dog", "sky"], tokenizer, caption="cat, sky, dog and cat")
    assert pieces(prompt, tokenizer, prompt.classes[0].tokens) == ["cat", "dog", "cat"]


def test_every_token_of_a_split_word_counts(tokenizer):
    prompt = build(["fire engine", "cat"], tokenizer)
    assert "".join(pieces(prompt, tokenizer, prompt.classes[0].tokens)) == "fireengine"
    assert len(prompt.classes[0].tokens) > 2


def test_longest_phrase_claims_its_place(tokenizer):
    prompt = build(["tree", "palm tree"], tokenizer, caption="palm tree, tree")
    tree, palm = prompt.classes
    assert not set(tree.tokens) & set(palm.tokens)
    assert pieces(prompt, tokenizer, tree.tokens) == ["tree"]
    with pytest.raises(ValueError, match="does not mention 'tree'"):
        build(["tree", "palm tree"], tokenizer, caption="palm tree")


def test_background_that_the_caption_lacks_is_appended(tokenizer):
    prompt = build(["cat"], tokenizer, caption="A cat.", background=["background", "sky|cat tree"])
    assert prompt.text == "a cat, background, sky, cat tree"
    assert build(["cat"], tokenizer, caption="a cat, sky.", background=["sky"]).text == "a cat, sky."


def test_case_and_spaces_do_not_matter(tokenizer):
    prompt = build(["PALM  Tree"], tokenizer, caption="  A Palm\ntree ")
    assert prompt.text == "a palm tree" and prompt.classes[0].name == "PALM Tree"


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([], {}, "No classes were given"),
        (["cat", "dog|Cat"], {}, "'cat' is named more than once"),
        (["cat"], {"background": ["CAT"]}, "'cat' is named more than once"),
        (["cat", " "], {}, "A class is blank in ' '"),
        (["cat|"], {}, r"A class is blank in 'cat\|'"),
        (["cat"], {"background": [""]}, "A background phrase is blank"),
        (["cat", "dog"], {"caption": "a cat"}, "does not mention 'dog'; add the word"),
        (["cat", "dog"], {"max_length": 3}, "class 'dog' lies beyond .* limit of 3 tokens"),
        (["cat|sky"], {"max_length": 3}, "The word 'sky' of the class 'cat' lies beyond .* limit of 3 tokens"),
        (["cat", ","], {}, "The class ',' is punctuation, which names nothing"),
        (["cat|-"], {}, "The class '-' is punctuation"),
        (["cat", "\N{HORIZONTAL ELLIPSIS} !"], {}, "is punctuation"),
        (["cat"], {"background": ["."]}, "The background phrase '.' is punctuation"),
        (["cat|wolf", "zebra|gnu"], {"vocabulary": ("cat",)}, "never seen the word 'zebra', 'gnu'"),
        (["cat", "zebra"], {"vocabulary": ("cat", "fire engine")}, "'zebra'; it knows cat, fire engine .*--model sd15"),
        (["cat"], {"caption": "a cat", "vocabulary": ("cat",)}, "never seen the word 'a'"),
    ],
)
def test_mistakes_are_explained(tokenizer, classes, options, message):
    with pytest.raises(ValueError, match=message):
        build(classes, tokenizer, **options)


def test_words_of_known_phrases_are_known(tokenizer):
    assert build(["fire engine"], tokenizer, vocabulary=("cat", "fire engine")).text == "fire engine"


def test_positions_survive_truncation_as_the_pipeline_truncates(tokenizer):
    classes = ["cat", "dog", "sky"]
    full = tokenizer(", ".join(classes))["input_ids"]
    fits = build(classes, tokenizer, max_length=len(full))
    assert len(fits.classes) == 3
    with pytest.raises(ValueError, match="'sky' lies beyond"):
        build(classes, tokenizer, max_length=len(full) - 1)
    cut = build(["cat"], tokenizer, caption="cat, dog, sky", max_length=len(full) - 1)
    kept = tokenizer("cat, dog, sky", truncation=True, max_length=len(full) - 1)["input_ids"]
    assert max(cut.content_tokens) < len(kept) - 1
    assert pieces(cut, tokenizer, cut.content_tokens) == ["cat", "dog"]


def test_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="Slow does not report offsets; load the model's fast tokenizer"):
        build(["cat"], Slow())


def test_find_words_gives_character_spans():
    assert find_words("a cat, cat", ["cat", "dog"]) == {"cat": [(2, 5), (7, 10)], "dog": []}


def test_words_before_and_after_the_text_are_not_its_own(tokenizer):
    text, around = "cat, cat-tree", ("the cat and ", " cat")
    found, alone = read_offsets(tokenizer, text, 64, around=around), read_offsets(tokenizer, text, 64)
    ids = tokenizer(around[0] + text + around[1])["input_ids"]
    words = [tokenizer.decode([ids[position]]) for position in found.spans]
    assert "".join(words).replace(" ", "") == "cat,cat-tree"
    assert [text[slice(*span)].strip() for span in found.spans.values()] == [
        text[slice(*span)].strip() for span in alone.spans.values()
    ]
    assert found.limit == alone.limit


def test_text_padded_in_front_ends_where_the_padding_would(tokenizer):
    behind, front = (read_offsets(tokenizer, "cat, dog", 16, padded=side) for side in ("right", "left"))
    missing = 16 - len(tokenizer("cat, dog")["input_ids"])
    assert [position + missing for position in behind.spans] == list(front.spans)
    long = "cat " * 20
    assert read_offsets(tokenizer, long, 16, padded="left") == read_offsets(tokenizer, long, 16)


def test_template_is_split_around_the_text():
    assert read_template(lambda text: f"<user>{text}</user> {{}}") == ("<user>", "</user> {}")


def test_words_of_scripts_without_spaces_are_found_in_running_text():
    text = "一只猫坐在自行车上, カーペットとスカーフ, ネコが寝る, แมวนอน"
    found = find_words(text, ["猫", "自行车", "车", "カー", "スカーフ", "ネコ", "แมว"])
    assert {word: len(places) for word, places in found.items()} == {
        "猫": 1,
        "自行车": 1,
        "车": 0,
        "カー": 0,
        "スカーフ": 1,
        "ネコ": 1,
        "แมว": 1,
    }


def test_marks_belong_to_the_letter_before_them():
    assert find_words("cafe\u0301", ["cafe"]) == {"cafe": []}
    assert find_words("\u092c\u093f\u0932\u094d\u0932\u0940", ["\u092c", "\u0932"]) == {"\u092c": [], "\u0932": []}
    assert find_words("\u092c\u093f\u0932\u094d\u0932\u0940 \u0918\u093e\u0938", ["\u0918\u093e\u0938"]) == {
        "\u0918\u093e\u0938": [(7, 10)]
    }


def test_hyphens_join_words():
    assert find_words("t-shirt, shirt- tree", ["t", "shirt", "tree"]) == {
        "t": [],
        "shirt": [(9, 14)],
        "tree": [(16, 20)],
    }
    assert find_words("xa a a", ["a a"]) == {"a a": [(3, 6)]}


def test_composed_and_decomposed_letters_are_the_same(tokenizer):
    prompt = build(["caf\u00e9"], tokenizer, caption="a Cafe\u0301, grass")
    assert prompt.text == "a caf\u00e9, grass"
    assert prompt.classes[0].tokens == build(["cafe\u0301"], tokenizer, caption="a caf\u00e9, grass").classes[0].tokens


def test_a_string_of_names_is_split_at_its_commas(tokenizer):
    prompt = build("cat, palm tree|tree\uff0cgrass", tokenizer, background="sky,dog")
    assert [each.name for each in prompt.classes] == ["cat", "palm tree", "grass"]
    assert [each.name for each in prompt.background] == ["sky", "dog"]
    assert prompt.text == "cat, palm tree, tree, grass, sky, dog"


def test_of_a_caption_the_synonyms_that_stand_there_count(tokenizer):
    prompt = build(["cat|kitten|dog", "grass|lawn"], tokenizer, caption="a dog on the grass")
    assert [pieces(prompt, tokenizer, each.tokens) for each in prompt.classes] == [["dog"], ["grass"]]


def test_articles_and_punctuation_of_a_class_are_no_part_of_its_map(tokenizer):
    prompt = build(["the palm-tree", "a cat"], tokenizer)
    assert ["".join(pieces(prompt, tokenizer, each.tokens)) for each in prompt.classes] == ["palmtree", "cat"]
    assert pieces(build(["the"], tokenizer), tokenizer, build(["the"], tokenizer).classes[0].tokens) == ["the"]


def test_synonyms_that_a_small_model_does_not_know_are_left_out(tokenizer):
    prompt = build(["kitten|cat", "sky"], tokenizer, vocabulary=("cat", "sky"))
    assert prompt.text == "cat, sky" and prompt.classes[0].name == "kitten"
    assert pieces(prompt, tokenizer, prompt.classes[0].tokens) == ["cat"]
