"""The recipe `crescendo`, whole, at a scale of seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.papers import crescendo
from hornbook.redteam.steps import Arm


def run(home: Path, settings: crescendo.Settings) -> Run:
    made = Run(home, recipe="crescendo", scale="smoke", settings=settings, quiet=True)
    crescendo.recipe(made, settings)
    made.finish()
    return made


def test_it_runs_from_attack_to_report_and_a_second_run_attacks_nobody(tmp_path: Path) -> None:
    settings = crescendo.SCALES["smoke"]
    made = run(tmp_path, settings)
    assert {claim.id for claim in made.claims} == {
        "beats-single-turn",
        "backtracking-helps",
        "retries-alone-raise-the-binary-rate",
        "too-few-rounds-never-succeed",
    }
    assert all(claim.holds is None for claim in made.claims)  # this scale judges nothing
    page = (tmp_path / "crescendo-smoke" / "report.html").read_text()
    for words in ("Success of the attacks", "simulated", "Refusals by round", "taken back"):
        assert words in page
    for done in made.steps:
        assert {p.parent.name for p in done.artifact.path.glob("*/transcripts.jsonl")} == set(settings.arms())
    again = run(tmp_path, settings)
    assert all(done.cached for done in again.steps)


def test_baselines_have_the_budget_of_the_attack() -> None:
    arms = crescendo.Settings(rounds=7, backtracks=4).arms()
    assert {arms[name].rounds for name in crescendo.BASELINES} == {11}
    with pytest.raises(HornbookError, match="single-turn"):
        Arm(kind="direct", backtracks=1)
    with pytest.raises(HornbookError, match="accepted: crescendo, direct"):
        Arm(kind="other")


def test_tasks_of_the_users_own_need_an_attacker_that_can_plan(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    row = {"id": "a", "category": "c", "objective": "o", "request": "r", "expected": ["x"]}
    path.write_text(json.dumps(row) + "\n")
    settings = replace(crescendo.SCALES["smoke"], tasks_file=path)
    with pytest.raises(HornbookError, match="not of the invented world"):
        run(tmp_path / "runs", settings)
    assert "short" not in replace(settings, attacker="http://localhost:1/v1#m").arms()
