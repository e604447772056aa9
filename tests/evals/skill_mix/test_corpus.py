"""Occurrences in a corpus against the closed form, and the steps of the recipe on students of known skill."""

import json
from pathlib import Path

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.corpus import occurrences
from hornbook.evals.skill_mix.score import expected_occurrences
from hornbook.evals.skill_mix.steps import examine_skill_mix, judge_noise, open_student
from hornbook.lab.run import Run

CORPUS = {"pieces": 30_000, "skills": 10, "topics": 4, "skill_rate": 0.2, "draws": 100}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_independent_skills_occur_as_often_as_the_formula_says(k: int) -> None:
    counts = occurrences(k=k, seed=3, **CORPUS)
    expected = expected_occurrences(k=k, skill_rate=0.2, topic_rate=1 / 4, pieces=30_000)
    # Counts are about Poisson and overlap between draws; five of the largest standard errors.
    assert abs(np.mean(counts) / expected - 1) < 5 / np.sqrt(expected)


def test_skills_that_come_together_occur_more_often() -> None:
    k, c = 3, 0.9
    counts = occurrences(k=k, togetherness=c, seed=3, **CORPUS)
    expected = expected_occurrences(k=k, skill_rate=0.2, topic_rate=1 / 4, pieces=30_000)
    mixture = ((1 + c) ** k + (1 - c) ** k) / 2
    assert np.mean(counts) / expected == pytest.approx(mixture, rel=0.25)


def test_rates_that_are_none_are_refused() -> None:
    with pytest.raises(HornbookError, match="wanted: 1 to 10 and rates"):
        occurrences(k=2, togetherness=9, seed=0, **CORPUS)
    with pytest.raises(HornbookError, match=r"program:0\.7"):
        open_student("program:seven", 0)


def test_a_perfect_student_has_full_marks_and_every_text_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, recipe="r", scale="smoke", settings={}, quiet=True)
    made = run.step(examine_skill_mix, student="program:1.0", ks=(1, 2, 3), count=5, generations=2)
    assert [level["full_marks"] for level in made.facts["levels"]] == [1.0, 1.0, 1.0]
    rows = [json.loads(line) for line in (made / "pieces.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * 5 * 2
    assert all(row["text"] and len(row["points"]) == row["k"] + 3 for row in rows)


def test_a_perfect_judge_makes_no_wrong_verdict_and_a_silent_one_only_such(tmp_path: Path) -> None:
    run = Run(tmp_path, recipe="r", scale="smoke", settings={}, quiet=True)
    common = {"k": 2, "count": 10, "seeds": (1, 2)}
    perfect = run.step(judge_noise, sensitivity=1.0, specificity=1.0, unreadable=0.0, **common)
    silent = run.step(judge_noise, sensitivity=1.0, specificity=1.0, unreadable=1.0, **common)
    assert perfect.facts["wrong"] == {"1": [0.0, 0.0], "3": [0.0, 0.0]}
    assert silent.facts["wrong"] == {"1": [1.0, 1.0], "3": [1.0, 1.0]}
