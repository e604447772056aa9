"""Passages lose nothing, and their ranking is BM25 as its paper defines it."""

import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.data.retrieval import Passage, PassageIndex, passages_of, with_passages
from hornbook.errors import HornbookError


@given(st.text(alphabet="ab .\n!?é", max_size=300), st.integers(1, 12))
def test_passages_lose_nothing_but_white_space_and_say_where_they_stand(text, words):
    found = passages_of("doc", text, words=words)
    assert "".join("".join(p.text for p in found).split()) == "".join(text.split())
    for passage in found:
        assert text[passage.start :].startswith(passage.text)
        assert len(re.findall(r"\w+", passage.text)) <= words
        assert passage.text == passage.text.strip() != ""


def test_scores_are_those_of_the_formula_computed_by_hand():
    texts = ["the cat sat on the mat", "a dog", "the dog ate the cat and the cat food", "nothing here"]
    index = PassageIndex([Passage(source="s", start=0, text=text) for text in texts], k1=1.5, b=0.6)
    bags = [Counter(text.split()) for text in texts]
    mean = sum(sum(bag.values()) for bag in bags) / len(bags)

    def score(bag, question):
        total = 0.0
        for word in set(question.split()):
            holding = sum(word in other for other in bags)
            rarity = math.log(1 + (len(bags) - holding + 0.5) / (holding + 0.5))
            held_back = 1.5 * (1 - 0.6 + 0.6 * sum(bag.values()) / mean)
            total += rarity * bag[word] * 2.5 / (bag[word] + held_back)
        return total

    found = index.search("the cat dog", most=10)
    assert {one.passage.text: one.score for one in found} == pytest.approx(
        {text: score(bag, "the cat dog") for text, bag in zip(texts, bags) if score(bag, "the cat dog") > 0}
    )
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert "nothing here" not in [one.passage.text for one in found]


def test_a_question_in_other_letters_finds_its_passage():
    texts = ["Die Straße ist lang.", "Кошка сидит дома.", "猫 が 好き"]
    index = PassageIndex([Passage(source="s", start=0, text=text) for text in texts])
    assert index.search("STRASSE", most=1)[0].passage.text == texts[0]
    assert index.search("кошка", most=1)[0].passage.text == texts[1]
    assert index.search("猫", most=1)[0].passage.text == texts[2]
    assert index.search("unknown", most=1) == []
    assert PassageIndex([]).search("anything") == []


def test_the_model_is_shown_the_passages_and_then_the_question():
    found = PassageIndex([Passage(source="s", start=0, text="Ada wrote it.")]).search("who wrote it?")
    assert with_passages("who wrote it?", found).index("Ada") < with_passages("who wrote it?", found).index(
        "who"
    )
    assert with_passages("alone", []) == "alone"


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(HornbookError, match="k1"):
        PassageIndex([], k1=-1)
    with pytest.raises(HornbookError, match="words"):
        passages_of("s", "a", words=0)
