"""Rates against brute force."""

from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
from scripted import Scripted, counting_attacker, exact, task

from hornbook.errors import HornbookError
from hornbook.lm.base import Failure, Request
from hornbook.redteam.attack import attack
from hornbook.redteam.rates import attack_rates, corrected, rate_interval, success_at
from hornbook.redteam.tasks import AttackSettings


@pytest.mark.parametrize(("won", "runs", "k"), [(0, 5, 2), (1, 5, 2), (3, 6, 4), (5, 5, 1), (2, 7, 7)])
def test_success_at_k_is_the_share_of_all_choices_of_k_runs(won: int, runs: int, k: int) -> None:
    outcomes = [1] * won + [0] * (runs - won)
    share = fmean(any(chosen) for chosen in combinations(outcomes, k))
    assert success_at(won, runs, k) == pytest.approx(share)


def test_average_and_binary_as_the_paper_counts_them_and_errors_stand_outside(tmp_path: Path) -> None:
    # Successes per task in 4 runs: t0 all, t1 one, t2 none; one run of t1 fails for the target's own fault.
    won = {"t0": {0, 1, 2, 3}, "t1": {2}, "t2": set()}

    def reply(key: str, number: int, request: Request) -> str | Failure:
        name, run = key.split("#")
        if key == "t1#3":
            return Failure(kind="bad_request", message="too long")
        return f"jackpot{name[1:]}." if int(run) in won[name] and number == 1 else "no luck"

    made = attack(
        [task(number) for number in range(3)],
        attacker=counting_attacker(),
        target=Scripted(reply),
        judges=exact(),
        folder=tmp_path,
        settings=AttackSettings(max_rounds=3, runs_per_task=4),
    )
    rates = attack_rates(made)
    assert rates.average.value == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert rates.binary.value == pytest.approx(2 / 3)
    assert (rates.tasks, rates.runs, rates.successes) == (3, 11, 5)
    assert rates.outside == {"attacker_error": 0, "target_error": 1, "undetermined": 0, "unfinished": 0}
    assert rates.at == pytest.approx({1: (1 + 1 / 3) / 3, 2: (1 + 2 / 3) / 3})
    assert rates.rounds == (2.0, 2.0, 2.0)
    assert rates.queries == pytest.approx((5 * 2 + 6 * 3) / 11)
    assert rates.by_category == pytest.approx({"c0": 0.5, "c1": 1 / 3})
    low, high = rates.average.interval
    assert 0 <= low < rates.average.value < high <= 1


def test_an_interval_is_never_a_point_where_tasks_are_few() -> None:
    low, high = rate_interval([1.0] * 10)
    assert low < 0.75
    assert high == 1.0
    assert rate_interval([0.0] * 10)[1] > 0.25
    low, high = rate_interval([0.5] * 4)
    assert low < 0.5 < high


def test_correction_undoes_what_a_judge_of_known_quality_does() -> None:
    for rate in (0.0, 0.2, 0.9):
        observed = rate * 0.7 + (1 - rate) * (1 - 0.95)
        assert corrected(observed, sensitivity=0.7, specificity=0.95) == pytest.approx(rate)
    assert corrected(0.01, sensitivity=0.7, specificity=0.95) == 0.0
    with pytest.raises(HornbookError, match="no better than chance"):
        corrected(0.5, sensitivity=0.5, specificity=0.5)
