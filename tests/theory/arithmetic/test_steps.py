"""Lessons: what is drawn for training and exam, a pupil that learns, and settings that cannot work."""

import dataclasses

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.model.plain import load_plain
from hornbook.theory.arithmetic.exam import answers, mark
from hornbook.theory.arithmetic.steps import Lesson, Pupil, accuracy, examine, teach, training
from hornbook.train.settings import OptimizerSettings


def rng():
    return np.random.default_rng(0)


def test_training_never_holds_what_the_exam_asks():
    for task in ("multiplication", "addition"):
        lesson = Lesson(task=task, digits=3, samples=5000)
        taught = lesson.training(rng())
        known = {taught.text(row)[0] for row in range(5000)}
        asked = lesson.exam(30, rng())
        large = asked.cell.sum(1) > 3
        assert large.any()
        assert not any(asked.text(row)[0] in known for row in np.flatnonzero(large))
        joint = Lesson(task=task, digits=3, samples=5000, joint=True).training(rng())
        assert (joint.cell[:, 0] == joint.cell[:, 1]).all()


def test_the_exam_asks_each_cell_equally_often():
    product = Lesson(task="multiplication", digits=4, second_digits=2)
    assert product.cells() == [(a, b) for a in (1, 2, 3, 4) for b in (1, 2)]
    lines = product.exam(5, rng())
    assert [tuple(cell) for cell in lines.cell.tolist()] == [c for c in product.cells() for _ in range(5)]
    assert Lesson(task="addition", digits=2, asked=4).cells() == [(n, n) for n in (1, 2, 3, 4)]
    assert product.training(rng()).cell.max(0).tolist() == [4, 2]


def test_half_of_a_dialogues_lesson_is_bare_additions_of_more_digits():
    lesson = Lesson(task="dialogue", digits=1, asked=3, bare_digits=3, samples=2000)
    lines = lesson.training(rng())
    texts = [lines.text(row, " ")[0] for row in range(2000)]
    spoken = np.array([":" in text for text in texts])
    assert spoken.sum() == 1000
    assert lines.cell[spoken].max() == 1
    assert lines.cell[~spoken].max() == 3
    assert all(":" in lesson.exam(2, rng()).text(row, " ")[0] for row in range(6))


def test_random_spaces_are_in_training_and_exam():
    lesson = Lesson(task="addition", digits=2, spaces=True, samples=200)
    for lines in (lesson.training(rng()), lesson.exam(20, rng())):
        assert sum(" " in lines.text(row)[0] for row in range(len(lines))) > len(lines) / 2


def run_in(folder):
    return Run(folder, recipe="arithmetic", scale="smoke", settings=Pupil(), quiet=True)


def test_a_pupil_learns_a_table_and_is_kept(tmp_path):
    """One-digit products, 100 of them, all in training: 0.6 right after 90 steps, 0.02 before."""
    lesson = Lesson(task="multiplication", format="padded_reversed", digits=1, samples=2000)
    pupil = Pupil(hidden_size=32, layers=1, rows=64, steps=90)
    made = run_in(tmp_path).step(teach, lesson=lesson, pupil=pupil, each=100, seed=0)
    assert accuracy(made.facts, [(1, 1)]) > 0.25
    assert len(made.facts["digits"]) == 2
    assert all(line["prompt"].endswith("=") for line in made.facts["shown"])
    assert {line["right"] for line in made.facts["shown"]} >= {True}
    assert not (made / "model" / "training").exists()
    model = load_plain(made / "model")
    asked = lesson.exam(100, np.random.default_rng([0, 1]))
    assert mark(asked, answers(model, asked)).right.mean() == accuracy(made.facts, [(1, 1)])


def test_a_pupil_of_dialogues_is_examined_outside_them(tmp_path):
    """Its vocabulary is larger than that of bare sums: what it says there may be a word."""
    talk = Lesson(task="dialogue", format="reversed", digits=1, bare_digits=2, small_talk=1, samples=200)
    run = run_in(tmp_path)
    pupil = Pupil(hidden_size=32, layers=1, rows=16, steps=1)
    made = run.step(teach, lesson=talk, pupil=pupil, each=2, seed=0)
    bare = Lesson(task="addition", format="reversed", joint=True, digits=2)
    asked = run.step(examine, model=made / "model", lesson=bare, each=20, seed=0)
    assert [cell[:2] + cell[3:] for cell in asked.facts["cells"]] == [[1, 1, 20], [2, 2, 20]]
    assert all(line["prompt"].endswith("=") for line in asked.facts["shown"])
    # The longest question is not the one with the longest answer: both must fit at once.
    lines = talk.exam(2, np.random.default_rng([0, 1]))
    needed = int(lines.prompt.max() + (lines.length - lines.prompt).max()) + 4
    assert load_plain(made / "model").config.max_position >= needed


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    pupil = Pupil(
        hidden_size=32,
        layers=1,
        rows=16,
        steps=40,
        training=training(OptimizerSettings(kind="adamw", learning_rate=1e30)),
    )
    lesson = Lesson(task="addition", digits=1, samples=100)
    with pytest.raises(HornbookError, match=r"Training stopped at step .* in a row"):
        run_in(tmp_path).step(teach, lesson=lesson, pupil=pupil, each=2, seed=0)


def test_settings_that_cannot_work_are_sentences():
    for wrong, words in (
        ({"task": "division"}, "task is 'division'; accepted are multiplication"),
        (
            {"task": "addition", "format": "padded", "asked": 9},
            "'padded' fixes the longest number at digits = 3",
        ),
        ({"task": "addition", "digits": 0}, "digits is 0; it must be 1 or more"),
        ({"task": "addition", "bare_digits": 2}, "only the task 'dialogue'"),
    ):
        with pytest.raises(HornbookError, match=words):
            Lesson(**wrong)
    with pytest.raises(HornbookError, match="digits is 101"):
        Lesson(task="addition", digits=101, samples=10).training(rng())
    with pytest.raises(ValueError, match=r"none of the cells \[\(7, 7\)\]"):
        accuracy({"cells": [[1, 1, 3, 4]]}, [(7, 7)])
    assert dataclasses.asdict(Lesson(task="copy"))["positions"] == "learned"
