"""Word problems: the program text against the plan's truth, and the split by skeleton."""

import itertools
import json
import re
from fractions import Fraction
from random import Random

import pytest

from hornbook.errors import HornbookError
from hornbook.sandbox import Job, run_many
from hornbook.synth.problem_steps import STEPS, evaluate, is_held_out, skeletons
from hornbook.synth.word_problems import (
    Teacher,
    break_program,
    problem_rows,
    spoil,
    substitute,
    work_of,
    write_problem,
)

PROBLEMS = [write_problem(7, index, held_out=index % 3 == 0) for index in range(1200)]


def calculate(program: str) -> Fraction:
    """A calculator for our layout that shares no code with the writer and does not use `exec`."""
    values: dict[str, Fraction] = {}

    def value(word: str) -> Fraction:
        return Fraction(int(word)) if word.isdigit() else values[word]

    for line in program.split("\n")[1:-1]:
        name, _, right = line.strip().partition(" = ")
        words = right.split(" ")
        total = value(words[0])
        for operator, word in zip(words[1::2], words[2::2]):
            other = value(word)
            total = {"+": total + other, "-": total - other, "*": total * other}.get(operator, total)
            if operator == "//":
                assert (total / other).denominator == 1, "divisions are exact"
                total = total / other
            if operator == "%":
                total = total % other
        values[name] = total
    return values["answer"]


def test_programs_give_the_planned_answer_under_both_assignments() -> None:
    for problem in PROBLEMS:
        assert calculate(problem.program) == problem.answer
        other = substitute(problem.program, problem.numbers, problem.second_numbers)
        assert calculate(other) == problem.second_answer
        assert problem.answer != problem.second_answer


def test_programs_run_in_the_sandbox() -> None:
    some = PROBLEMS[:100]
    outcomes = run_many([Job(source=problem.program, entry="solution") for problem in some])
    assert [outcome.value for outcome in outcomes] == [problem.answer for problem in some]


def test_every_number_of_the_plan_stands_in_the_question_once() -> None:
    for problem in PROBLEMS:
        said = re.findall(r"\d+", problem.question)
        assert len(set(problem.numbers)) == len(problem.numbers)
        for number in problem.numbers:
            assert said.count(str(number)) == 1, problem.question
        assert len(said) - len(problem.numbers) == problem.distractor


def test_numbers_come_in_the_order_of_the_program() -> None:
    """The mapping a small model has to learn: statement by statement, line by line."""
    for problem in PROBLEMS:
        literals = [int(n) for n in re.findall(r"\b\d+\b", problem.program) if int(n) in problem.numbers]
        seen = list(dict.fromkeys(literals))
        question = [int(n) for n in re.findall(r"\d+", problem.question) if int(n) in problem.numbers]
        assert seen == question, (problem.question, problem.program)


def test_variables_are_words_of_the_question() -> None:
    fixed = {"answer", "part", "more", "less", "total", "first", "second", "each"}
    for problem in PROBLEMS:
        words = set(re.findall(r"[a-z]+", problem.question.lower()))
        for name in re.findall(r"^    (\w+) =", problem.program, re.MULTILINE):
            assert name in fixed or name.lower() in words, (name, problem.question)


def test_no_skeleton_is_in_both_parts() -> None:
    train = {s for group in skeletons(False).values() for s in group}
    test = {s for group in skeletons(True).values() for s in group}
    assert not train & test
    assert len(train) >= 30
    assert len(test) >= 30
    assert {name for s in train for name in s} == set(STEPS), "training shows every step type"
    written_train = {write_problem(1, i).skeleton for i in range(600)}
    written_test = {write_problem(1, i, held_out=True).skeleton for i in range(300)}
    assert written_train <= train
    assert written_test <= test
    assert all(is_held_out(s) for s in written_test)


def test_some_held_out_skeletons_have_a_pair_training_never_shows() -> None:
    def pairs(group: set[tuple[str, ...]]) -> set[tuple[str, str]]:
        return {pair for s in group for pair in itertools.pairwise(s)}

    train = {s for group in skeletons(False).values() for s in group}
    test = {s for group in skeletons(True).values() for s in group}
    assert len(pairs(test) - pairs(train)) >= 5


def test_answers_are_positive_whole_numbers_of_modest_size() -> None:
    assert all(0 < problem.answer < 4000 for problem in PROBLEMS)
    assert sum(problem.answer <= 240 for problem in PROBLEMS) / len(PROBLEMS) > 0.9


def test_evaluate_by_hand() -> None:
    assert evaluate(("groups", "half", "lose", "left_over"), ((4, 6), (), (3,), (5,))) == (4 * 6 // 2 - 3) % 5
    assert evaluate(("fewer", "a_to_b", "b_than_a"), ((20, 8), (7,), ())) == (20 - 8 + 7) - (20 - 7)


def test_rows_are_the_same_for_a_seed_from_any_start() -> None:
    whole = list(problem_rows(2, 25))
    assert whole[9:] == list(problem_rows(2, 25, start=9))
    meta = json.loads(whole[3]["meta"])
    assert whole[3]["text"] == f"{meta['question']}\n{meta['program']}"


def test_a_noisy_teacher_errs_as_often_as_asked() -> None:
    wrong = broken = 0
    for index in range(600):
        problem = write_problem(3, index, teacher=Teacher(wrong_share=0.25, broken_share=0.05))
        wrong += problem.flaw not in ("", "broken")
        broken += problem.flaw == "broken"
    assert 0.19 < wrong / 600 < 0.31
    assert 0.02 < broken / 600 < 0.09
    with pytest.raises(HornbookError, match="wrong_share"):
        Teacher(wrong_share=1.5)


def test_spoiled_programs_run_and_are_wrong_and_broken_ones_do_not_run() -> None:
    rng = Random(4)
    jobs, truths = [], []
    for problem in PROBLEMS[:120]:
        jobs.append(Job(source=spoil(problem.program, rng)[0], entry="solution"))
        jobs.append(Job(source=break_program(problem.program, rng), entry="solution"))
        truths.append(problem.answer)
    outcomes = run_many(jobs)
    wrong = sum(o.ok and o.value != truth for o, truth in zip(outcomes[::2], truths))
    assert wrong == 120
    assert not any(outcome.ok for outcome in outcomes[1::2])


def test_a_teacher_that_errs_by_the_step_errs_more_on_long_problems() -> None:
    wrong: dict[int, list[bool]] = {}
    for index in range(3000):
        problem = write_problem(3, index, teacher=Teacher(wrong_each=0.3))
        wrong.setdefault(work_of(problem.skeleton), []).append(problem.flaw != "")
    for work, flags in wrong.items():
        expected = 1 - 0.7**work
        assert abs(sum(flags) / len(flags) - expected) < 4 * (expected * (1 - expected) / len(flags)) ** 0.5


def test_told_again_a_problem_has_the_same_plan_and_numbers_in_other_words() -> None:
    for index in range(50):
        first, again = (write_problem(1, index, held_out=True, wording=w) for w in (0, 1))
        assert (again.skeleton, again.numbers, again.answer) == (first.skeleton, first.numbers, first.answer)
        assert again.question != first.question
        assert calculate(again.program) == first.answer


def test_other_solutions_of_a_faultless_teacher_agree_and_of_an_erring_one_differ_sometimes() -> None:
    def others(teacher: Teacher) -> list[bool]:
        rows = problem_rows(5, 300, teacher=teacher, solutions=3)
        metas = [json.loads(row["meta"]) for row in rows]
        return [set(meta["others"]) == {meta["answer"]} for meta in metas]

    assert all(others(Teacher()))
    share = sum(others(Teacher(wrong_each=0.1, broken_share=0.1))) / 300
    assert 0.2 < share < 0.8
