"""The story grader: its own accuracy on damaged stories, and its parts."""

import re

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.stories.corruption import KINDS, grader_accuracy
from hornbook.evals.stories.grades import form_faults, grade_stories, grade_story, share_of_words
from hornbook.evals.stories.memory import TrainingIndex, nearest_rouge
from hornbook.synth.stories import write_story


def test_the_grader_finds_damage_and_leaves_sound_stories_alone() -> None:
    accuracy = grader_accuracy(per_kind=40, sound=200)
    assert sum(accuracy.counts.values()) >= 200
    assert accuracy.false_alarms <= 0.05
    assert set(accuracy.recall) == set(KINDS)
    assert min(accuracy.recall.values()) >= 0.75, accuracy.recall
    assert sum(accuracy.recall.values()) / len(KINDS) >= 0.9


def test_kinds_of_fault_are_told_apart() -> None:
    story = next(s for s in (write_story(9, i) for i in range(200)) if s.plan.hero_kind in ("girl", "boy"))
    assert grade_story(story.text, story.plan).consistent
    stranger = "Felix" if story.plan.hero not in ("Felix",) and story.plan.friend != "Felix" else "Otto"
    changed = story.text + f" Then {stranger} was sad."
    grade = grade_story(changed, story.plan)
    assert not grade.consistent
    assert any(kind == "world: unknown name" for kind, _ in grade.faults)


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("mia ran home.", "no capital"),
        ("Mia ran home", "no end mark"),
        ('"Yes, said Mia.', "open quote"),
        ("Mia saw the the kite.", "doubled word"),
        ("Mia had a apple.", "a or an"),
        ("Mia wanted to jumped.", "verb form"),
    ],
)
def test_faults_of_form(sentence: str, fault: str) -> None:
    assert fault in form_faults(sentence)
    assert form_faults("Mia wanted to jump over an old log.") == []


def test_required_words_count_in_any_form() -> None:
    assert share_of_words("She sang about kites.", ["sing", "kite", "red"]) == pytest.approx(2 / 3)


def test_scores_and_memory_of_training_stories() -> None:
    train = [write_story(1, i).text for i in range(300)]
    fresh = [write_story(2, i, held_out=True) for i in range(30)]
    score = grade_stories([s.text for s in fresh], [s.plan for s in fresh], training=train)
    assert score.consistent >= 0.9
    assert score.grammar >= 0.98
    assert score.words_present == 1.0
    assert score.memorised == 0.0
    copies = grade_stories(train[:5], training=train)
    assert copies.memorised == 1.0
    low, high = score.consistent_interval
    assert low <= score.consistent <= high


def test_nearest_rouge_finds_the_copied_story() -> None:
    train = [write_story(1, i).text for i in range(50)]
    changed = re.sub(r"\bOne\b", "A", train[33])
    assert nearest_rouge(changed, TrainingIndex(train)) > 0.95


def test_nothing_to_grade_is_said() -> None:
    with pytest.raises(HornbookError, match="nothing"):
        grade_stories([])
    with pytest.raises(HornbookError, match="plans"):
        grade_stories(["A."], [None, None])
