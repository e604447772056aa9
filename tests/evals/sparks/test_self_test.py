"""Every probe against programs: one that knows the answers, one that knows nothing, a memorizer."""

import pytest

from hornbook.evals.result import Result
from hornbook.evals.sparks.probe import Probe, trials
from hornbook.evals.sparks.run import PROBES, program, run_probe
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel

ITEMS = 12


def nobody(request: Request) -> str:
    raise AssertionError("the program answers")


def played(name: str, kind: str, items: int = ITEMS, seed: int = 3) -> Result:
    probe = PROBES[name]
    model = SimulatedModel(kind, nobody)
    return run_probe(probe, model, items=items, seed=seed, actor=program(kind, probe, seed))


@pytest.mark.parametrize("name", PROBES)
def test_a_solver_has_full_marks_and_who_knows_nothing_has_none(name: str) -> None:
    best = played(name, "reference")
    assert (best.items, best.scores[0].name) == (ITEMS, PROBES[name].metric)
    wrong = [sample for sample in best.samples if not sample["right"]]
    assert best.scores[0].value == 1.0, wrong[:1]
    assert played(name, "null").scores[0].value == 0.0


@pytest.mark.parametrize("name", [name for name in PROBES if name != "judging"])  # a coin has one half there
def test_answers_to_one_variant_do_not_pass_for_the_others(name: str) -> None:
    assert played(name, "memorizer").scores[0].value <= 0.2


@pytest.mark.parametrize("name", PROBES)
def test_variants_are_many_and_repeat_for_their_seed(name: str) -> None:
    probe: Probe = PROBES[name]
    first, again, longer, other = (trials(probe, n, seed) for n, seed in ((20, 1), (20, 1), (30, 1), (20, 2)))
    assert [t.openings for t in first] == [t.openings for t in again] == [t.openings for t in longer[:20]]
    assert len({t.openings for t in longer}) == 30
    assert [t.openings for t in first] != [t.openings for t in other]


def test_slips_cost_what_they_are() -> None:
    noisy = played("sum-direct", "noisy:0.25", items=200)
    low, high = noisy.scores[0].interval
    assert low < 0.75 < high
