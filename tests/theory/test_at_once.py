"""Drills: lines say what Python says, exams are held out, memorized pairs are not."""

from pathlib import Path

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.theory.at_once import RULES, Drill, held_out


def texts(drill: Drill, *, exam: bool, known: bool = False) -> list[tuple[str, str]]:
    rng = np.random.default_rng(3)
    lines = drill.exam(20, rng, known=known) if exam else drill.training(400, rng)
    return [lines.text(row) for row in range(len(lines))]


@pytest.mark.parametrize("steps", [False, True])
def test_answers_are_what_python_computes(steps: bool) -> None:
    for prompt, answer in texts(Drill(kind="sum", steps=steps), exam=False):
        value = eval(prompt.rstrip("="))
        written, _, final = answer.rpartition("#")
        assert int(final) == value
        assert bool(written) == steps
        if steps:
            assert eval(written) == value
            assert written == "+".join(str(eval(part)) for part in prompt.rstrip("=").split("+"))


@pytest.mark.parametrize("kind", ["sum", "template"])
def test_the_exam_asks_what_training_never_held(kind: str) -> None:
    drill = Drill(kind=kind)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    lines = drill.training(4_000, rng)
    taught = {lines.text(row)[0] for row in range(len(lines))}
    asked = {prompt for prompt, _ in texts(drill, exam=True)}
    assert not taught & asked
    assert len(asked) > 10 * len(drill.groups())


def test_few_pairs_a_template_and_all_of_them_known() -> None:
    drill = Drill(kind="template", pairs=5)
    taught = {prompt for prompt, _ in texts(drill, exam=False)}
    assert len(taught) == 5 * len(RULES)
    assert {prompt for prompt, _ in texts(drill, exam=True, known=True)} == taught
    assert not taught & {prompt for prompt, _ in texts(drill, exam=True)}
    assert not any(held_out(list(map(int, prompt[2:-1].split(":")))) for prompt in taught)


def test_templates_follow_their_rules() -> None:
    for prompt, answer in texts(Drill(kind="template"), exam=True):
        rule, a, b = map(int, prompt.rstrip("=").split(":"))
        assert int(answer) == RULES[rule](a, b)


def test_groups_of_sums_are_ranges_of_factors() -> None:
    lines = Drill(kind="sum").exam(30, np.random.default_rng(1))
    for row in range(len(lines)):
        factors = [int(c) for c in lines.text(row)[0] if c.isdigit()]
        assert all(5 * lines.cell[row, 0] <= f < 5 * lines.cell[row, 0] + 5 for f in factors)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"kind": "song"}, "accepted are sum"), ({"kind": "template", "steps": True}, "no steps"),
     ({"kind": "template", "pairs": -1}, "pairs is -1")],
)  # fmt: skip
def test_drills_that_cannot_be(fields: dict[str, object], why: str) -> None:
    with pytest.raises(HornbookError, match=why):
        Drill(**fields)  # type: ignore[arg-type]


def test_a_finished_model_is_not_taught_again(tmp_path: Path) -> None:
    from dataclasses import replace

    from hornbook.lab.run import Run
    from hornbook.theory.arithmetic.steps import Pupil
    from hornbook.theory.steps_at_once import drill, share

    pupil = replace(Pupil(), hidden_size=32, layers=1, steps=2, rows=16)
    run = Run(tmp_path, recipe="r", scale="smoke", settings=pupil, quiet=True)
    made = run.step(
        drill, drills={"t": Drill(kind="template", pairs=4)}, pupil=pupil, samples=40, each=4, seeds=(0, 1)
    )
    assert [len(entry["known"]) for entry in made.facts["t"]] == [len(RULES)] * 2
    assert 0 <= share(made.facts["t"][0]) <= 1
    assert share(made.facts["t"][0], groups=(1,), exam="known") in (0, 0.25, 0.5, 0.75, 1)
    assert not list(made.path.glob("t-0/*"))
