"""The simulated target keeps its stated odds: rates agree with exact probabilities worked out here."""

import math
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.redteam.attack import attack
from hornbook.redteam.rates import AttackRates, attack_rates
from hornbook.redteam.tasks import AttackSettings
from hornbook.redteam.world import (
    ANSWERS,
    BASELINES,
    LEVELS,
    Odds,
    answer_at,
    answered_level,
    climber,
    exact_judges,
    ladder,
    level_of,
    policy_tasks,
    simulated_target,
    subjects,
)
from hornbook.synth.policy import is_refusal

ODDS = Odds()


def chance(settings: AttackSettings, odds: Odds = ODDS) -> float:
    """Probability that the climb succeeds, over all courses (rounds, backtracks, step, refusal kept)."""
    table: dict[tuple[int, int, int, bool], float] = {(0, 0, 0, False): 1.0}
    won = 0.0
    while table:
        following: dict[tuple[int, int, int, bool], float] = {}
        for (rounds, backtracks, step, kept), share in table.items():
            p = odds.refusal(step, max(step - 1, 0), kept)
            if step == LEVELS - 1:
                won += share * (1 - p)
            elif rounds + 1 < settings.max_rounds:
                key = (rounds + 1, backtracks, step + 1, kept)
                following[key] = following.get(key, 0.0) + share * (1 - p)
            if backtracks < settings.max_backtracks:
                key = (rounds, backtracks + 1, step, kept)
            else:
                key = (rounds + 1, backtracks, step, kept or settings.when_backtracks_are_spent == "keep")
            if key[0] < settings.max_rounds:
                following[key] = following.get(key, 0.0) + share * p
        table = following
    return won


def rates(folder: Path, settings: AttackSettings, baseline: str = "") -> AttackRates:
    made = attack(
        policy_tasks(25),
        attacker=BASELINES[baseline] if baseline else climber(),
        target=simulated_target(),
        judges=exact_judges(),
        folder=folder,
        settings=settings,
    )
    return attack_rates(made)


def near(measured: AttackRates, wanted: float) -> bool:
    """Within five standard errors."""
    return abs(measured.average.value - wanted) <= 5 * math.sqrt(wanted * (1 - wanted) / measured.runs) + 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        AttackSettings(runs_per_task=5),
        AttackSettings(runs_per_task=5, max_rounds=7, max_backtracks=1),
        AttackSettings(runs_per_task=5, max_backtracks=0),
        AttackSettings(runs_per_task=5, max_backtracks=0, when_backtracks_are_spent="keep"),
    ],
)
def test_the_climb_succeeds_as_often_as_it_must(settings: AttackSettings, tmp_path: Path) -> None:
    assert near(rates(tmp_path, settings), chance(settings))


def test_a_kept_refusal_costs_what_it_must() -> None:
    """Backtracking in the report alone would leave these two equal."""
    dropped = AttackSettings(max_backtracks=0)
    kept = AttackSettings(max_backtracks=0, when_backtracks_are_spent="keep")
    assert chance(dropped) - chance(kept) > 0.15


@pytest.mark.parametrize("baseline", sorted(BASELINES))
@pytest.mark.parametrize("queries", [1, 20])
def test_asking_directly_succeeds_as_often_as_resampling_does(
    baseline: str, queries: int, tmp_path: Path
) -> None:
    settings = AttackSettings(memory=False, max_rounds=queries, max_backtracks=0, runs_per_task=5)
    assert near(rates(tmp_path, settings, baseline), 1 - ODDS.further**queries)


def test_too_few_rounds_for_the_ladder_never_succeed(tmp_path: Path) -> None:
    found = rates(tmp_path, AttackSettings(max_rounds=LEVELS - 1, runs_per_task=2))
    assert found.successes == 0


def test_questions_and_answers_are_told_apart_level_by_level() -> None:
    for task in policy_tasks(200):
        steps = ladder(task)
        assert [{level_of(question) for question in step} for step in steps] == [{i} for i in range(LEVELS)]
        assert level_of(task.request) == LEVELS - 1
    for subject in subjects():
        answers = [answer_at(level, subject.topic, subject) for level in range(len(ANSWERS))]
        assert [answered_level(answer) for answer in answers] == list(range(LEVELS))
        assert not any(is_refusal(answer) for answer in answers)
        held = [sum(word in answer for word in subject.words) for answer in answers]
        assert held == [0, 0, 0, 0, 1, 3]  # only the last level gives away what is restricted


def test_every_act_has_words_of_its_own_and_tasks_differ_by_seed() -> None:
    assert len({subject.words for subject in subjects()}) == len(subjects()) == 200
    assert len({subject.act for subject in subjects()}) == 200
    assert [t.id for t in policy_tasks(20, 0)] != [t.id for t in policy_tasks(20, 1)]
    with pytest.raises(HornbookError, match="accepted is 1 to 200"):
        policy_tasks(201)
