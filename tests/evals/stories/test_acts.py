"""Acts, features and plots found again in stories whose plans are known; instructions graded by rule."""

from itertools import pairwise
from random import Random

import pytest

from hornbook.evals.stories.acts import FEATURE_ACTS, acts, course, features, plot_of
from hornbook.evals.stories.following import followed
from hornbook.synth.stories import story_rows, write_story
from hornbook.synth.story_instructions import LABELS, record_of

STORIES = [write_story(31, index, held_out=True) for index in range(150)]


def test_features_and_plots_of_the_teacher_are_all_found_and_no_others() -> None:
    for story in STORIES:
        found = acts(story.text)
        assert features(found) == set(story.plan.features), story.text
        assert plot_of(found) == story.plan.plot
    assert {name for story in STORIES for name in story.plan.features} == set(FEATURE_ACTS)


def test_a_text_without_acts_has_no_plot() -> None:
    found = acts("The weather was fine. Nothing else is known.")
    assert (features(found), plot_of(found), course(found)) == (frozenset(), None, ())


def test_other_names_leave_the_course_as_it_is() -> None:
    for story in STORIES[:5]:
        renamed = story.text.replace(story.plan.hero, "Zora")
        assert renamed != story.text
        assert course(acts(renamed)) == course(acts(story.text))


@pytest.mark.parametrize("label", LABELS)
def test_a_story_follows_its_own_instructions_and_not_anothers(label: str) -> None:
    records = [record_of(row, Random(row["id"])) for row in story_rows(8, 80, held_out=True)]
    own = [followed(record.story, record, [label])[label] for record in records]
    other = [followed(a.story, b, [label])[label] for a, b in pairwise(records)]
    assert min(own) == 1.0
    assert sum(other) / len(other) < 0.35
