"""Stories against their plans, read back by code that knows nothing of the templates."""

import json
import re
from random import Random

import pytest

from hornbook.errors import HornbookError
from hornbook.synth import lexicon
from hornbook.synth.phrase import Phrase, Phrases, sentence_case, with_article
from hornbook.synth.stories import (
    PLOTS,
    continuation_prompt,
    sentences,
    story_rows,
    write_story,
)
from hornbook.synth.world import PLOT_NAMES, StoryPlan, plan_story, slots, triple_is_held_out

STORIES = [write_story(11, index) for index in range(1500)]


def test_a_story_keeps_its_words() -> None:
    for story in STORIES:
        said = set(re.findall(r"[a-z]+", story.text.lower()))
        verb = lexicon.VERB_BY_BASE[story.plan.verb]
        assert said & {verb.base, verb.past, verb.ing}, story.text
        assert story.plan.noun in said, story.text
        assert story.plan.adjective in said, story.text


def test_only_planned_people_occur_and_both_do() -> None:
    for story in STORIES:
        named = {word for word in re.findall(r"[A-Z][a-z]+", story.text) if word in lexicon.GENDER}
        assert named == {story.plan.hero, story.plan.friend}


def test_pronouns_fit_the_people() -> None:
    """With hero, friend and adult of one gender, the other gender's pronouns never occur."""
    checked = 0
    for story in STORIES:
        genders = {lexicon.GENDER[story.plan.hero], lexicon.GENDER[story.plan.friend]}
        if genders == {"he"}:
            checked += 1
            assert not re.search(r"\b(she|her|herself)\b", story.text.lower()), story.text
        elif genders == {"she"}:
            checked += 1
            assert not re.search(r"\b(he|him|his|himself)\b", story.text.lower()), story.text
    assert checked > 400


def test_stories_have_the_asked_length() -> None:
    lengths = sorted(len(story.text.split()) for story in STORIES)
    assert lengths[len(lengths) // 100] >= 60
    assert lengths[len(lengths) * 98 // 100] <= 145
    assert 90 <= sum(lengths) / len(lengths) <= 125


def test_no_slot_or_bracket_is_left_and_quotes_are_closed() -> None:
    for story in STORIES:
        assert not re.search(r"[\[\]{}|]", story.text)
        assert story.text.count('"') % 2 == 0
        assert story.text[0].isupper()
        assert story.text[-1] in '.!?"'
        assert "  " not in story.text
        assert not re.search(r"\ba [aeio]", story.text), story.text
        assert not re.search(r"\ban [^aeiou]", story.text), story.text


def test_features_are_told() -> None:
    for story in STORIES:
        if "Dialogue" in story.plan.features:
            assert '"' in story.text
        feelings = [
            word for word in re.findall(r"[a-z]+", story.text) if word in (*lexicon.GLAD, *lexicon.SAD)
        ]
        if "BadEnding" in story.plan.features:
            assert not feelings or feelings[-1] not in lexicon.GLAD, story.text


def test_every_phrasing_of_every_act_can_be_rendered() -> None:
    table = slots(plan_story(Random(0)), Random(0))
    for plot in PLOTS.values():
        for act in plot.values():
            assert act.slots() <= set(table)
    assert set(PLOTS) == set(PLOT_NAMES)
    assert len({frozenset(plot) for plot in PLOTS.values()}) == 1


def test_the_same_seed_writes_the_same_rows_from_any_start() -> None:
    whole = list(story_rows(5, 30))
    assert whole == list(story_rows(5, 30))
    assert whole[17:] == list(story_rows(5, 30, start=17))
    assert whole[0] != next(story_rows(6, 1))


def test_word_triples_are_split_between_train_and_test() -> None:
    train = {write_story(1, index).plan.words for index in range(800)}
    test = {write_story(1, index, held_out=True).plan.words for index in range(300)}
    assert all(triple_is_held_out(*words) for words in test)
    assert not any(triple_is_held_out(*words) for words in train)


def test_a_plan_survives_its_row() -> None:
    row = next(story_rows(3, 1))
    meta = json.loads(row["meta"])
    story = write_story(3, 0)
    assert StoryPlan.from_json(meta["plan"]) == story.plan
    assert row["text"] == story.text


def test_wishes_are_kept_and_unknown_words_refused() -> None:
    plan = plan_story(
        Random(1), noun="kite", verb="jump", adjective="shiny", plot="lost", features=("Twist",)
    )
    assert (plan.noun, plan.verb, plan.adjective, plan.plot) == ("kite", "jump", "shiny", "lost")
    with pytest.raises(HornbookError, match="tractor"):
        plan_story(Random(1), noun="tractor")


def test_a_continuation_prompt_cuts_inside_a_sentence() -> None:
    for story in STORIES[:300]:
        begin, rest = continuation_prompt(story.text)
        assert begin + rest == story.text
        assert begin[-1] not in '.!?"'


def test_sentences_keep_quotes_whole() -> None:
    text = 'Mia ran. "Where is it? I had it," she said. "Look!" Tom laughed. "No!" said Mia.'
    assert sentences(text) == [
        "Mia ran.",
        '"Where is it? I had it," she said.',
        '"Look!"',
        "Tom laughed.",
        '"No!" said Mia.',
    ]
    for story in STORIES[:200]:
        assert " ".join(sentences(story.text)) == story.text


def test_phrases_choose_and_nest() -> None:
    phrase = Phrase("[a|b [c|d]] {x}")
    made = {phrase.render(Random(seed), {"x": "y"}) for seed in range(60)}
    assert made == {"a y", "b c y", "b d y"}
    assert phrase.count() == 3
    for wrong in ("[a", "a]", "a|b", "{a b}"):
        with pytest.raises(HornbookError):
            Phrase(wrong)
    with pytest.raises(HornbookError):
        Phrases([])


def test_articles_and_capitals() -> None:
    assert [with_article(word) for word in ("apple", "red apple", "unicorn", "hour")] == [
        "an apple",
        "a red apple",
        "a unicorn",
        "an hour",
    ]
    assert sentence_case('the sun shone. "look!" she ran.') == 'The sun shone. "look!" she ran.'
