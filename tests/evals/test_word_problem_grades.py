"""Grading word problems by execution."""

import pytest

from hornbook.errors import HornbookError
from hornbook.evals.word_problems import evaluate, extract_program, grade, same_number
from hornbook.sandbox import Limits
from hornbook.synth.word_problems import Teacher, problem_rows, substitute

ROWS = list(problem_rows(31, 60, held_out=True))


def test_right_programs_are_right_and_wrong_ones_wrong() -> None:
    texts = [row["text"] for row in ROWS]
    assert grade(texts, ROWS).accuracy == 1.0
    assert grade(texts, ROWS).robust == 1.0
    shifted = texts[1:] + texts[:1]
    assert grade(shifted, ROWS).accuracy < 0.1


def test_a_number_worked_out_in_the_head_is_right_by_coincidence() -> None:
    import json

    answers = [json.loads(row["meta"])["answer"] for row in ROWS]
    texts = [f"def solution():\n    return {answer} + 0" for answer in answers]
    score = grade(texts, ROWS)
    assert score.accuracy == 1.0
    assert score.robust < 0.1
    assert score.reasons["right by coincidence"] > 50


def test_flaws_of_a_noisy_teacher_are_counted() -> None:
    rows = list(problem_rows(8, 100, teacher=Teacher(wrong_share=0.5, broken_share=0.5)))
    score = grade([row["text"] for row in rows], rows)
    assert score.accuracy < 0.05
    assert 0.3 < score.ran < 0.7


def test_texts_without_a_program_count_as_wrong() -> None:
    score = grade(["I do not know."] * len(ROWS), ROWS)
    assert score.accuracy == 0.0
    assert score.interval.low == 0.0
    assert score.reasons == {"no program": len(ROWS)}


def test_endless_loops_end() -> None:
    score = grade(
        ["def solution():\n    while True:\n        pass"], ROWS[:1], limits=Limits(cpu_seconds=0.3)
    )
    assert score.accuracy == 0.0
    assert set(score.reasons) <= {"cpu_limit", "wall_limit"}


def test_programs_are_found_in_chatter_and_fences() -> None:
    program = "def solution():\n    answer = 2\n\n    return answer"
    for text in (
        f"Sure!\n```python\n{program}\n```\nDone.",
        f"Here it is:\n{program}\nThat is all.",
        f"```\n{program}",
        program,
    ):
        assert extract_program(text) == program
    assert extract_program("def other():\n    return 1") == ""


def test_same_number() -> None:
    assert same_number(12.0, 12)
    assert not same_number(True, 1)
    assert not same_number("12", 12)
    assert not same_number(float("nan"), 12)
    assert not same_number(10**400, 12)


def test_evaluate_asks_the_question() -> None:
    table = {row["text"].split("\ndef ")[0]: row["text"] for row in ROWS}
    assert evaluate(lambda prompts: [table[p] for p in prompts], ROWS).accuracy == 1.0
    with pytest.raises(HornbookError):
        grade(["x"], [])


def test_substitution_leaves_other_numbers_alone() -> None:
    assert substitute("a = 12 + 2 // 100", (12, 2), (7, 12)) == "a = 7 + 12 // 100"
