import itertools
import math

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.evals.judges import (
    Calibration,
    Case,
    Rate,
    calibration,
    cohen_kappa,
    columns,
    correct,
    judge,
    majority,
    pair,
    yes_no,
)
from hornbook.lm.base import Failure, Request
from hornbook.lm.simulated import SimulatedModel


def said(text):
    return SimulatedModel("fixed", lambda request: text)


def prompt(request: Request) -> str:
    assert request.messages is not None
    return request.messages[-1].content


def test_a_verdict_that_cannot_be_read_is_unscored_and_counted_not_no():
    cases = [yes_no(str(i), f"Is {i} prime?", truth=False) for i in range(5)]
    judged = judge(said("I would rather not say."), cases, rounds=2)
    found = columns(judged)
    assert (found.verdicts, found.unscored, found.unscored_cases) == (20, 20, 5)
    assert found.agreement.trials == 0  # "no" would have been right every time
    assert found.agreement.value is None
    assert found.kappa is None


def test_a_failed_call_is_unscored_and_says_why():
    broken = SimulatedModel("broken", lambda request: Failure(kind="server", message="status 500"))
    (item,) = judge(broken, [yes_no("a", "Is 7 prime?", truth=True)], rounds=1)
    assert item.value is None
    assert all("status 500" in verdict.why for verdict in item.verdicts)


def test_a_judge_that_takes_whatever_stands_first_is_found_out_and_decides_nothing():
    cases = [pair(str(i), "Add 2 and 2.", "4", "5", truth="first") for i in range(6)]
    judged = judge(said("1"), cases)
    assert {item.value for item in judged} == {"tie"}
    found = columns(judged)
    assert found.first_place.value == 1.0
    assert found.position.value == 0.0
    assert found.agreement.value == 0.0
    assert found.self_consistency == 1.0  # it agrees with itself and is worthless: both columns are needed


def test_a_judge_that_always_says_yes_keeps_its_answer_in_both_orders():
    cases = [yes_no(str(i), f"Question {i}?", truth=i % 2 == 0) for i in range(8)]
    judged = judge(said("Let me think.\nYes"), cases)
    found = columns(judged)
    assert found.position.value == 1.0
    assert found.first_place.value == 0.5  # half of the orders name yes first
    rates = calibration(judged)
    assert (rates.sensitivity.value, rates.specificity.value) == (1.0, 0.0)
    assert found.kappa == 0.0


def test_a_good_judge_follows_the_answer_when_the_places_are_swapped():
    def fn(request):
        return "1" if "Answer 1:\n4" in prompt(request) else "2"

    judged = judge(SimulatedModel("good", fn), [pair("a", "2+2?", "4", "5", truth="first")])
    assert judged[0].value == "first"
    assert columns(judged).position.value == 1.0
    assert columns(judged).first_place.value == 0.5


def test_rounds_are_separate_draws_and_self_consistency_is_the_share_of_equal_pairs():
    def fn(request):
        return "Yes" if request.sample_index == 0 else "No"  # over three rounds: yes, no, no

    judged = judge(SimulatedModel("fickle", fn), [yes_no("a", "?")], rounds=3)
    assert judged[0].value == "no"
    assert columns(judged).self_consistency == pytest.approx(1 / 3)  # of 3 pairs one agrees, in either order


def test_one_round_leaves_self_consistency_unknown_instead_of_perfect():
    assert columns(judge(said("Yes"), [yes_no("a", "?")], rounds=1)).self_consistency is None


def test_majority_against_brute_force():
    for values in itertools.product(["a", "b", None], repeat=4):
        a, b = values.count("a"), values.count("b")
        assert majority(values) == ("a" if a > b else "b" if b > a else None)


def test_kappa_of_a_table_worked_by_hand():
    # 20 both yes, 5 yes/no, 10 no/yes, 15 both no: agreement 0.7, by chance 0.5*0.6 + 0.5*0.4 = 0.5
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([("y", "y")] * 3) is None  # no spread, no chance to correct for


def test_a_case_that_offers_not_the_same_in_both_orders_is_refused():
    words = ({"yes": ("yes",), "no": ("no",)}, {"yes": ("yes",), "maybe": ("maybe",)})
    with pytest.raises(HornbookError, match="same meanings"):
        Case(id="a", prompts=("", ""), words=words)
    with pytest.raises(HornbookError, match="better"):
        pair("a", "", "", "", truth="better")
    with pytest.raises(HornbookError, match="rounds is 0"):
        judge(said("Yes"), [], rounds=0)


def rates(tp, yes, tn, no):
    return Calibration(sensitivity=Rate(hits=tp, trials=yes), specificity=Rate(hits=tn, trials=no))


def test_the_correction_inverts_what_an_imperfect_judge_does_to_a_share():
    for truth, sensitivity, specificity in itertools.product((0.0, 0.25, 0.6, 1.0), (0.7, 0.9), (0.8, 0.95)):
        seen = truth * sensitivity + (1 - truth) * (1 - specificity)
        found = correct(
            Rate(hits=round(seen * 100_000), trials=100_000),
            rates(round(1000 * sensitivity), 1000, round(1000 * specificity), 1000),
        )
        assert found.value == pytest.approx(truth, abs=1e-4)
        assert found.interval.low <= truth <= found.interval.high


def test_a_perfect_judge_measured_without_end_leaves_the_share_and_its_noise():
    found = correct(Rate(hits=30, trials=100), rates(10**9, 10**9, 10**9, 10**9))
    assert found.value == pytest.approx(0.3)
    # Agresti and Coull's interval is what is left of Lang and Reiczigel's
    z = 1.959963984540054
    n, p = 100 + z * z, (30 + z * z / 2) / (100 + z * z)
    half = z * math.sqrt(p * (1 - p) / n)
    assert found.interval == pytest.approx((p - half, p + half), abs=1e-6)


def test_the_interval_widens_with_the_noise_of_the_calibration():
    seen = Rate(hits=400, trials=1000)
    widths = []
    for n in (20, 200, 20_000):
        interval = correct(seen, rates(n * 8 // 10, n, n * 9 // 10, n)).interval
        widths.append(interval.high - interval.low)
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    for truth, sensitivity, specificity in ((0.1, 0.8, 0.9), (0.5, 0.7, 0.7), (0.9, 0.9, 0.8)):
        covered = 0
        for _ in range(400):
            yes = generator.binomial(60, sensitivity)
            no = generator.binomial(60, specificity)
            seen = generator.binomial(150, truth * sensitivity + (1 - truth) * (1 - specificity))
            low, high = correct(Rate(hits=int(seen), trials=150), rates(int(yes), 60, int(no), 60)).interval
            covered += low <= truth <= high
        assert covered / 400 > 0.92


def test_a_judge_no_better_than_chance_corrects_nothing():
    found = correct(Rate(hits=5, trials=10), rates(50, 100, 50, 100))
    assert found.value is None
    assert found.interval == (0.0, 1.0)
    assert "chance" in found.why


def test_without_known_answers_of_both_kinds_there_is_no_correction():
    with pytest.raises(HornbookError, match="known answers"):
        correct(Rate(hits=5, trials=10), rates(5, 5, 0, 0))


def test_unscored_verdicts_do_not_count_as_errors_of_either_kind():
    found = Calibration.of([(True, True), (True, None), (False, None), (False, False), (False, True)])
    assert (found.sensitivity.hits, found.sensitivity.trials) == (1, 1)
    assert (found.specificity.hits, found.specificity.trials) == (1, 2)
