import pytest

from hornbook.errors import HornbookError
from hornbook.evals.judges import correct
from hornbook.evals.skill_mix.checkable import exact_grade, mechanical_judge, mechanical_student
from hornbook.evals.skill_mix.run import calibrate, checkable, evaluate
from hornbook.evals.skill_mix.score import score
from hornbook.evals.skill_mix.skills import TOPICS, our_skills
from hornbook.lm.simulated import SimulatedModel


def test_levels_end_at_the_first_that_is_below_the_floor():
    asked = []
    found = evaluate(mechanical_student(success=0.35), ks=(1, 2, 3, 4, 5, 6), count=40, say=asked.append)
    values = [level.score.full_marks.value for level in found.levels]
    assert all(value >= 0.05 for value in values[:-1])
    assert values[-1] < 0.05
    assert 2 <= len(values) < 6
    assert len(asked) == len(values)
    assert found.judge == "exact programs"


def test_full_marks_fall_faster_than_the_fraction_of_skills():
    found = evaluate(mechanical_student(success=0.8), ks=(2, 5), count=60, generations=1)
    two, five = (level.score for level in found.levels)
    full = two.full_marks.value - five.full_marks.value
    fraction = two.skill_fraction.value - five.skill_fraction.value
    assert full > 0.15 > abs(fraction)


def test_a_generous_judge_is_corrected_towards_the_exact_grades_of_the_same_texts():
    judge = mechanical_judge(sensitivity=0.98, specificity=0.55)
    found = evaluate(
        mechanical_student(success=0.5), judge, ks=(2,), count=150, generations=1, rounds=1, calibration=150
    )
    (level,) = found.levels
    truth = score([exact_grade(g.piece) for g in level.grades]).pieces_full.value
    assert level.corrected is not None
    apparent, value = level.score.pieces_full.value, level.corrected.value
    assert apparent > truth + 0.1  # the judge flatters
    assert abs(value - truth) < abs(apparent - truth)
    assert level.corrected.interval.low < truth < level.corrected.interval.high
    wide = level.corrected.interval
    known = correct(
        level.score.pieces_full, calibrate(judge, k=2, count=600, rounds=1)["full marks"]
    ).interval
    assert known.high - known.low < wide.high - wide.low  # the less is known of the judge, the wider


def test_our_list_of_skills_needs_a_judge_and_says_so():
    with pytest.raises(HornbookError, match="No program checks"):
        evaluate(mechanical_student(success=1), skills=checkable()[0], topics=TOPICS[:3], ks=(1,), count=3)
    student = SimulatedModel("plain", lambda request: "Answer: A rope slept.\nExplanation: -")
    with pytest.raises(HornbookError, match="No program checks the skill"):
        evaluate(student, skills=our_skills(), topics=TOPICS, ks=(1,), count=3)
    table = "| Criteria | Points |\n" + "\n".join(f"| {i} | 1 |" for i in range(4))
    judge = SimulatedModel("kind", lambda request: table)
    found = evaluate(student, judge, skills=our_skills(), topics=TOPICS, ks=(1,), count=3, calibration=0)
    assert found.levels[0].score.full_marks.value == 1.0


def test_levels_must_ascend():
    with pytest.raises(HornbookError, match="ascend"):
        evaluate(mechanical_student(success=1), ks=(3, 2))


def test_a_calibration_takes_no_more_texts_than_there_are():
    errors = calibrate(mechanical_judge(sensitivity=1, specificity=1), k=1, count=10_000, rounds=1)
    full = errors["full marks"]
    assert full.sensitivity.trials + full.specificity.trials == len(checkable()[0]) * len(checkable()[1])
    assert full.sensitivity.value == full.specificity.value == 1.0
