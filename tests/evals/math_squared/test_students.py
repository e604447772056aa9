"""Students: what they learn from, how their answers are read, and an exam whose halves are the pairs' own."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.questions import pair, skills_named
from hornbook.evals.math_squared.students import (
    ALPHABET,
    MathStudent,
    as_lines,
    curriculum,
    cut,
    halves,
    right_answers,
    teach_mathematics,
)
from hornbook.lab.run import Run
from hornbook.lab.step import StepContext

KNOWN = ("remainders", "distances", "linear_equations")
TESTED = ("areas", "probabilities", "divisor_counts")


def test_tested_skills_never_meet_in_training_and_known_ones_do():
    known, tested = skills_named(KNOWN), skills_named(TESTED)
    made = curriculum(known, tested, MathStudent(questions=2000), Random(0))
    pairs = [set(q.skills) for q in made if len(q.skills) == 2]
    assert pairs
    assert all(len(both & set(TESTED)) < 2 for both in pairs)
    assert sum(bool(both & set(TESTED)) for both in pairs) / len(pairs) == pytest.approx(0.5, abs=0.1)
    seen = {name for q in made for name in q.skills}
    assert seen == {*KNOWN, *TESTED}
    assert len(pairs) / 2000 == pytest.approx(0.5, abs=0.05)


def test_tokens_give_the_question_back_and_the_answer_stands_behind_the_prompt():
    rng = Random(1)
    questions = [pair(*skills_named(("areas", "remainders")), rng) for _ in range(5)]
    lines = as_lines(questions)
    for row, question in enumerate(questions):
        prompt, answer = lines.text(row, " ")
        assert prompt == f"{question.text} :"
        assert answer == question.solution
        assert len(cut(question.text)) < 20
    assert len(ALPHABET) <= 255


def test_only_the_last_number_counts_and_what_never_ends_is_wrong():
    question = pair(*skills_named(("areas", "remainders")), Random(2))
    right = question.solution.split()
    texts = [
        [*right, "\n"],
        [*right[:-1], "99", "\n"],
        ["=", question.answer, "\n"],
        [question.answer, "\n"],
        ["\n"],
    ]
    given = np.full((len(texts), 16), ALPHABET.end, np.uint8)
    for row, text in zip(given, texts, strict=True):
        row[: len(text)] = ALPHABET.encode(text)
    assert right_answers([question] * 5, given).tolist() == [True, False, True, False, False]


def test_halves_are_the_parts_with_the_same_numbers():
    question = pair(*skills_named(("divisor_counts", "distances")), Random(3))
    first, second = halves(question, Random(0))
    assert first.parts == question.parts[:1]
    assert second.parts == question.parts[1:]
    assert second.answer == question.answer


def test_shares_that_do_not_fit_are_refused():
    with pytest.raises(HornbookError, match="sum to at most 1"):
        MathStudent(pairs=0.7, tested=0.6)


def test_a_student_that_was_stopped_has_the_exams_of_one_that_was_not(tmp_path):
    def taught(home, stop_at=None):
        run = Run(home, recipe="t", scale="smoke", settings={})
        student = MathStudent(
            hidden_size=16,
            layers=1,
            steps=8,
            rows=8,
            questions=64,
            training=replace(MathStudent().training, checkpoint_steps=3),
        )
        arm = {
            "student": student,
            "known": KNOWN,
            "tested": TESTED,
            "exam": 4,
            "checkpoints": (0.25, 0.5, 0.75, 1.0),
            "seed": 0,
        }
        if stop_at is not None:
            real, steps = StepContext.log, []

            def log(self, **numbers):
                real(self, **numbers)
                steps.append(numbers["step"])
                if len(steps) == stop_at:
                    raise KeyboardInterrupt

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(StepContext, "log", log)
                with pytest.raises(KeyboardInterrupt):
                    run.step(teach_mathematics, **arm)
        return run.step(teach_mathematics, **arm).facts["points"]

    whole = taught(tmp_path / "whole")
    assert [point["step"] for point in whole] == [2, 4, 6, 8]
    assert taught(tmp_path / "stopped", stop_at=6) == whole
