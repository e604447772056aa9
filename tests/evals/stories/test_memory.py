"""Copying: against counts made by hand, a brute force, and copies of known kinds."""

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.stories.memory import KS, TrainingIndex, copying, summary
from hornbook.evals.stories.ngram import NgramTeller
from hornbook.synth.diversity import ngrams, rouge_f, rouge_precision
from hornbook.synth.stories import continuation_prompt, write_story

TRAINING = [write_story(3, index).text for index in range(200)]


def test_shares_of_new_k_grams_are_those_of_plain_sets() -> None:
    index = TrainingIndex(TRAINING)
    text = write_story(4, 0, held_out=True).text
    for k in KS:
        known = {gram for story in TRAINING for gram in ngrams(story, k)}
        grams = ngrams(text, k)
        assert index.unseen(text)[k] == pytest.approx(sum(g not in known for g in grams) / len(grams))


def test_the_nearest_story_is_the_nearest_of_all() -> None:
    index = TrainingIndex(TRAINING)
    for number in (5, 77):
        ending = continuation_prompt(TRAINING[number])[1].replace(" the ", " that ", 1)
        value, found = index.nearest(ending)
        assert found == number
        assert value == max(rouge_precision(ending, story, 2) for story in TRAINING)
    assert index.nearest("zebra quartz") == (0.0, None)
    with pytest.raises(HornbookError, match="no training text"):
        TrainingIndex([])


def test_copies_templates_and_new_stories_are_told_apart() -> None:
    index = TrainingIndex(TRAINING)
    cut = [continuation_prompt(story) for story in TRAINING[:12]]
    copies = summary(copying([end for _, end in cut], [end for _, end in cut], index))
    assert copies["copied"] == copies["nearest"] == copies["to_truth"] == 1.0
    assert copies["unseen"]["4"] == 0.0
    fresh = [continuation_prompt(write_story(9, i, held_out=True).text)[1] for i in range(12)]
    new = summary(copying(fresh, [end for _, end in cut], index))
    assert new["copied"] == 0.0
    assert new["nearest"] < 0.7
    assert new["unseen"]["4"] > 0.1
    twice = copying([fresh[0], fresh[0], fresh[1]], [end for _, end in cut[:3]], index)
    assert [round(one.alike, 3) for one in twice[:2]] == [1.0, 1.0]
    assert twice[2].alike == pytest.approx(rouge_f(fresh[1], fresh[0], 2))
    with pytest.raises(HornbookError, match="one each"):
        copying(["A."], [], index)


def test_n_grams_go_on_as_their_stories_do() -> None:
    from random import Random

    teller = NgramTeller(["a b c d e f", "a b c d e g"], order=4)
    assert {teller.complete("x c d", Random(seed)) for seed in range(20)} == {" e f", " e g"}
    assert teller.complete("f", Random(0)) == ""
    assert len(NgramTeller(["a a"], order=1).complete("a", Random(0), most=3).split()) <= 3
    with pytest.raises(HornbookError, match="order"):
        NgramTeller([], order=2)
