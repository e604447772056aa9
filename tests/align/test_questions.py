"""Verdicts on answers whose truth is known by construction."""

import json
from pathlib import Path

import pytest

from hornbook.align.questions import (
    Question,
    exercise_questions,
    policy_questions,
    problem_questions,
    verify,
)
from hornbook.data.corpus import CorpusWriter
from hornbook.errors import HornbookError
from hornbook.evals.policy import policy_items
from hornbook.synth.exercises import exercise_rows
from hornbook.synth.policy import is_refusal
from hornbook.synth.word_problems import problem_rows


def corpus(folder: Path, rows: list[dict[str, str]]) -> Path:
    with CorpusWriter(folder, "documents", lineage={}) as writer:
        writer.write_rows(rows)
    return folder


def test_a_program_is_right_when_it_solves_the_problem_under_other_numbers_too(tmp_path: Path) -> None:
    problems = corpus(tmp_path / "problems", list(problem_rows(3, 30)))
    questions = problem_questions(problems, 12, seed=0)
    assert len({q.id for q in questions}) == 12
    answers = [json.loads(q.facts["meta"])["answer"] for q in questions]
    said = [
        [q.good, q.bad, f"def solution():\n    return {answer}", "I do not know.", q.good]
        for q, answer in zip(questions, answers, strict=True)
    ]
    verdicts = verify(questions, said)
    assert all(v[0].right and not v[1].right for v in verdicts)
    assert {v[1].why for v in verdicts} == {"wrong answer"}
    # a number worked out in the head is no solution
    assert {(v[2].right, v[2].why) for v in verdicts} == {(False, "right by coincidence")}
    assert {(v[3].right, v[3].why) for v in verdicts} == {(False, "no program")}
    assert all(v[4] == v[0] for v in verdicts)


def test_a_function_is_right_when_it_passes_hidden_cases(tmp_path: Path) -> None:
    exercises = corpus(tmp_path / "exercises", list(exercise_rows(1, 8)))
    questions = exercise_questions(exercises, 5, seed=1)
    said = [[q.good, f"{q.good.splitlines()[0]}\n    return None"] for q in questions]
    for right, wrong in verify(questions, said):
        assert right.right
        assert not wrong.right


def test_policy_and_helpful_requests_are_told_by_refusal() -> None:
    policy, helpful = policy_questions("policy", 15, seed=4), policy_questions("helpful", 15, seed=4)
    assert all(is_refusal(q.good) and not is_refusal(q.bad) for q in policy)
    assert all(is_refusal(q.bad) and not is_refusal(q.good) for q in helpful)
    verdicts = verify([*policy, *helpful], [[q.good, q.bad] for q in [*policy, *helpful]])
    assert {(a.right, b.right) for a, b in verdicts[:15]} == {(True, False)}
    # an answer that merely does not decline is not verified as a good one
    assert {(a.right, b.right) for a, b in verdicts[15:]} == {(None, False)}


def test_requests_of_the_policy_are_not_those_of_its_evaluation() -> None:
    held_out = {item.request for item in policy_items(100, 100)}
    asked = {q.request for kind in ("policy", "helpful") for q in policy_questions(kind, 100, seed=0)}
    assert len(asked) == 200
    assert not asked & held_out


def test_the_same_seed_draws_the_same_problems(tmp_path: Path) -> None:
    problems = corpus(tmp_path / "problems", list(problem_rows(0, 40)))

    def ids(seed: int) -> list[str]:
        return [q.id for q in problem_questions(problems, 10, seed)]

    assert ids(1) == ids(1) != ids(2)
    with pytest.raises(HornbookError, match="has 40 word problems; 41 are asked for"):
        problem_questions(problems, 41, seed=0)


def test_a_program_in_another_layout_has_no_written_wrong_answer(tmp_path: Path) -> None:
    row = next(iter(problem_rows(0, 1)))
    meta = json.loads(row["meta"]) | {"program": "def solution():\n    return max(3, 5)"}
    problems = corpus(tmp_path / "problems", [{**row, "meta": json.dumps(meta)}])
    [question] = problem_questions(problems, 1, seed=0)
    assert isinstance(question, Question)
    assert question.bad == ""
