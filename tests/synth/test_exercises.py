"""Exercises: the code of every operation against its meaning, and the examples against the code."""

import ast
import json
import re
from random import Random

from hornbook.sandbox import Job, run_many
from hornbook.synth.exercises import compose, draw_value, every_step_matters, exercise_rows, write_exercise
from hornbook.synth.primitives import OPERATIONS, compositions, is_held_out


def test_there_are_enough_operations_and_each_line_does_what_its_meaning_says() -> None:
    assert len(OPERATIONS) >= 24
    rng = Random(0)
    jobs, truths = [], []
    for operation in OPERATIONS:
        source = f"def f(v):\n    return {operation.line.format(v='v')}"
        for _ in range(12):
            value = draw_value(operation.takes, rng)
            jobs.append(Job(source=source, entry="f", args=(value,)))
            truths.append((operation.name, operation.apply(value)))
    outcomes = run_many(jobs)
    for outcome, (name, truth) in zip(outcomes, truths, strict=True):
        assert outcome.value == truth, name


def test_examples_in_docstrings_are_true() -> None:
    for index in range(150):
        exercise = write_exercise(1, index, held_out=index % 4 == 0)
        tree = ast.parse(exercise.solution)
        assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == [exercise.name]
        space: dict[str, object] = {}
        exec(exercise.solution, space)
        examples = re.findall(r">>> (.+)\n\s*(.+)", exercise.prompt)
        assert len(examples) == 2
        for call, shown in examples:
            assert repr(eval(call, space)) == shown


def test_compositions_are_split() -> None:
    for length in (2, 3):
        train, test = set(compositions(length, False)), set(compositions(length, True))
        assert not train & test
        assert len(test) > 40
        assert len(train) > 3 * len(test)
    assert compositions(1, True) == ()
    assert all(is_held_out(write_exercise(2, i, held_out=True).composition) for i in range(100))
    assert not any(is_held_out(write_exercise(2, i).composition) for i in range(200))


def test_rows_are_the_same_for_a_seed() -> None:
    rows = list(exercise_rows(4, 12))
    assert rows[5:] == list(exercise_rows(4, 12, start=5))
    assert (
        json.loads(rows[0]["meta"])["prompt"] == rows[0]["text"][: len(json.loads(rows[0]["meta"])["prompt"])]
    )


def test_a_composition_worked_by_hand() -> None:
    exercise = compose(("keep_even", "add_up"), Random(3))
    for value, truth in exercise.cases:
        assert truth == sum(n for n in value if n in range(-100, 100, 2))


def test_chains_have_no_idle_step_and_examples_differ() -> None:
    assert not every_step_matters(("keep_positive", "absolute"))
    assert not every_step_matters(("sort", "largest"))
    assert every_step_matters(("double", "sort"))
    for index in range(200):
        exercise = write_exercise(8, index)
        examples = [line for line in exercise.prompt.split("\n") if ">>>" in line]
        assert len(examples) == len(set(examples)) == 2
